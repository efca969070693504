//! The service profile of a user: which services the house does for him.

/// Every service there is.
pub const NAMES: [&str; 8] = ["message", "large", "session", "file", "group", "history", "xdm", "presence"];

/// Why a list of services is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no service (write all, none, or names joined by +: {})", NAMES.join(", "))]
pub struct NoService {
    /// The word that names nothing.
    pub word: String,
}

/// Reads `all`, `none` or `message+xdm` into its one spelling: each name once, in the order of [`NAMES`].
///
/// # Errors
/// The first word that names no service.
pub fn parse(list: &str) -> Result<String, NoService> {
    of_names(list.split('+'))
}

/// As [`parse`], of names that stand apart; no names are no services.
///
/// # Errors
/// The first word that names no service.
pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<String, NoService> {
    let words: Vec<&str> = names.into_iter().map(str::trim).collect();
    match words[..] {
        ["all"] => return Ok("all".to_owned()),
        ["none"] | [] => return Ok("none".to_owned()),
        _ => {}
    }
    if let Some(word) = words.iter().find(|word| !NAMES.contains(word)) {
        return Err(NoService { word: (*word).to_owned() });
    }
    let named: Vec<&str> = NAMES.into_iter().filter(|name| words.contains(name)).collect();
    Ok(if named.len() == NAMES.len() { "all".to_owned() } else { named.join("+") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_spelling() {
        for (list, spelling) in [
            ("all", "all"),
            ("none", "none"),
            ("message", "message"),
            ("xdm+message+xdm", "message+xdm"),
            ("message + group", "message+group"),
            ("presence+xdm+history+group+file+session+large+message", "all"),
        ] {
            assert_eq!(parse(list).as_deref(), Ok(spelling), "{list}");
        }
        assert_eq!(of_names([]).as_deref(), Ok("none"));
    }

    #[test]
    fn a_word_that_is_no_service_is_named() {
        for (list, word) in
            [("", ""), ("mesage", "mesage"), ("message+", ""), ("all+message", "all"), ("none+xdm", "none")]
        {
            assert_eq!(parse(list), Err(NoService { word: word.to_owned() }), "{list}");
        }
    }
}
