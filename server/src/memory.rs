//! What pages this process lives on: small ones (`docs/decisions/006-small-pages.md`).

/// Wants no huge pages, whatever the allocator asks for and the system gives without being asked: the first touch of one
/// takes milliseconds, and half of them is never used.
pub fn small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        // A kernel without them knows no such wish.
        tracing::debug!(%error, "Huge pages were not refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_no_huge_pages() {
        small_pages();
        assert_eq!(rustix::thread::transparent_huge_pages_are_disabled(), Ok(true));
    }
}
