//! Instants as RFC 3339 writes them (CPIM DateTime, RFC 3862 §4.4).

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Whole seconds since 1970 as `2006-04-04T17:16:49Z`; beyond the year 9999 its last second.
pub fn rfc3339(unix_s: u64) -> String {
    let written = i64::try_from(unix_s).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    written.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

/// Milliseconds since 1970 of an RFC 3339 text with its zone; nothing when it is none, or of before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_in_any_zone_and_written_in_utc() {
        let at = parse_rfc3339("2006-04-04T12:16:49-05:00").unwrap();
        assert_eq!(at, 1_144_171_009_000);
        assert_eq!(rfc3339(at / 1_000), "2006-04-04T17:16:49Z");
        assert_eq!(parse_rfc3339("2026-11-20T08:30:00.25Z"), Some(1_795_163_400_250));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in ["", "2006-04-04", "2006-04-04T12:16:49", "2006-13-04T12:16:49Z", "1969-12-31T23:59:58Z", "soon"] {
            assert_eq!(parse_rfc3339(text), None, "{text:?}");
        }
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
