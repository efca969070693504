//! What files are called: a name that somebody else chose leads nowhere, hides nothing and ends as it seems to.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base::limits::{FILE_EXTENSION_BYTES_MAX, FILE_NAME_BYTES_MAX};

use crate::visible::is_hidden;

/// What files are called, and what they are.
const TYPES: [(&str, &str); 10] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("pdf", "application/pdf"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("json", "application/json"),
    ("zip", "application/zip"),
];

/// The media type of a file, by its name.
pub fn media_type_of(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let found = TYPES.iter().find(|(name, _)| *name == extension);
    found.map_or("application/octet-stream", |(_, kind)| kind)
}

/// The header line that names a file which is sent (RFC 2183 §2.3); nothing where no name is left of it.
pub(crate) fn disposition_of(path: &Path) -> Option<String> {
    let name = safe(&path.file_name()?.to_string_lossy())?;
    Some(format!("Content-Disposition: attachment; filename=\"{name}\"\r\n"))
}

/// The name for a file that comes in: the one that its sender gave it, as far as it is safe; else the time, and an
/// extension by its media type.
pub(super) fn of(disposition: Option<&[u8]>, content_type: Option<&[u8]>) -> String {
    disposition.and_then(filename).and_then(|name| safe(&name)).unwrap_or_else(|| {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        format!("{seconds}.{}", extension_of(&String::from_utf8_lossy(content_type.unwrap_or_default())))
    })
}

/// `attachment; filename="a.png"` (RFC 2183 §2)
fn filename(disposition: &[u8]) -> Option<String> {
    let at = disposition.iter().position(|octet| *octet == b';')?;
    let name = sip::params::Params::parse(&disposition[at..])?.get("filename")?;
    Some(String::from_utf8_lossy(name).replace("\\\"", "\"").replace("\\\\", "\\"))
}

fn extension_of(content_type: &str) -> &'static str {
    let bare = content_type.split(';').next().unwrap_or_default().trim();
    TYPES.iter().find(|(_, kind)| kind.eq_ignore_ascii_case(bare)).map_or("bin", |(name, _)| name)
}

/// The last step of a path, without what a shell, another system or an eye takes for something else.
fn safe(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let odd = |letter: char| letter.is_control() || is_hidden(letter) || "\"'`$&;|<>*?:!".contains(letter);
    let plain: String = last.chars().map(|letter| if odd(letter) { '_' } else { letter }).collect();
    // Neither a hidden file nor an option.
    let plain = plain.trim_start_matches(['.', '-', ' ']).trim_end_matches(['.', ' ']);
    if plain.chars().all(|letter| letter == '_') {
        return None;
    }
    let (stem, extension) = split(plain);
    let mut end = stem.len().min(FILE_NAME_BYTES_MAX);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    Some(format!("{}{extension}", &stem[..end]))
}

/// A name before its extension, and that with its dot.
pub(super) fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= FILE_EXTENSION_BYTES_MAX => name.split_at(at),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_senders_leads_nowhere_and_hides_nothing() {
        for (name, safe_name) in [
            ("holiday picture.png", Some("holiday picture.png")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\Windows\\a.exe", Some("a.exe")),
            (".bashrc", Some("bashrc")),
            ("-rf", Some("rf")),
            ("photo\u{202e}gpj.exe", Some("photo_gpj.exe")),
            ("a\nb\u{0}c$(x).sh", Some("a_b_c_(x).sh")),
            ("Grüße an Ölaf.pdf", Some("Grüße an Ölaf.pdf")),
            ("", None),
            ("..", None),
            ("a/..", None),
            ("???", None),
        ] {
            assert_eq!(safe(name).as_deref(), safe_name, "{name:?}");
        }
        let long = safe(&format!("{}.png", "ü".repeat(300))).unwrap();
        assert!(long.len() <= FILE_NAME_BYTES_MAX + FILE_EXTENSION_BYTES_MAX && long.ends_with("ü.png"), "{long}");
    }

    #[test]
    fn a_file_keeps_its_name_on_the_way() {
        let line = disposition_of(Path::new("/home/alice/my \"best\" picture.png")).unwrap();
        assert_eq!(line, "Content-Disposition: attachment; filename=\"my _best_ picture.png\"\r\n");
        let value = line.trim_end().strip_prefix("Content-Disposition: ").unwrap();
        assert_eq!(of(Some(value.as_bytes()), None), "my _best_ picture.png");
        assert_eq!(of(Some(b"attachment;filename=a.zip"), Some(b"image/png")), "a.zip");
        for (disposition, kind, extension) in [
            (None, "Image/JPEG; a=b", ".jpg"),
            (Some("render"), "../../etc/passwd", ".bin"),
            (Some("attachment; filename=\"..\""), "", ".bin"),
        ] {
            let name = of(disposition.map(str::as_bytes), Some(kind.as_bytes()));
            assert!(name.ends_with(extension) && name.starts_with(|digit: char| digit.is_ascii_digit()), "{name}");
        }
    }

    #[test]
    fn files_are_known_by_what_they_are_called() {
        for (name, kind) in [("a.PNG", "image/png"), ("b.jpeg", "image/jpeg"), ("c", "application/octet-stream")] {
            assert_eq!(media_type_of(Path::new(name)), kind, "{name}");
        }
    }
}
