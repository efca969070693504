//! How many files this process may open: asked for at a start, and what connections may take of it.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files that are no connections: the store's, listeners, the log, the admin port.
pub const OF_OUR_OWN: usize = 1_024;

/// Raises what we may open to what the system allows us to raise it to; what that is.
pub fn raise() -> usize {
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current != limits.maximum {
        let wanted = limits.maximum;
        limits.current = wanted;
        // Not allowed: then what stands is what there is.
        let _ = setrlimit(Resource::Nofile, limits);
    }
    may_open()
}

/// Files that this process may open now.
pub fn may_open() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// How many of so many connections there is room for: the store must never find that strangers have taken its files.
pub fn room_for(connections: usize, files: usize) -> usize {
    let reserve = OF_OUR_OWN.min(files / 2);
    connections.min(files.saturating_sub(reserve)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_store_its_files_whatever_the_system_allows() {
        for (connections, files, room) in
            [(18_000, 20_000, 18_000), (18_000, 4_096, 3_072), (18_000, 1_024, 512), (100, 1_024, 100), (5, 0, 1)]
        {
            assert_eq!(room_for(connections, files), room, "{connections} of {files}");
        }
    }

    #[test]
    fn what_may_be_opened_is_raised_to_what_is_allowed() {
        let before = may_open();
        assert!(raise() >= before);
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
    }
}
