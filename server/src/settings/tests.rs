//! What is a fault, what is none, and how each is told.

use std::ffi::OsString;

use super::keys::{Preset, SECTIONS};
use super::*;

const NO_ENV: [(&str, &str); 0] = [];

fn loaded(text: &str) -> Result<Loaded, Faults> {
    loaded_with(text, &NO_ENV)
}

fn loaded_with(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Faults> {
    let env: Vec<_> = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    from_text("p.toml", text, env.into_iter())
}

/// The report of a faulty text, one fault a line.
fn report(text: &str) -> String {
    loaded(text).expect_err(text).to_string()
}

#[test]
fn the_example_configuration_is_the_documented_default() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/parlour.toml");
    let (there, wanted) = (std::fs::read_to_string(file).unwrap_or_default(), render_default_config());
    let parted = there.lines().zip(wanted.lines()).find(|(there, wanted)| there != wanted);
    let cure = "write it anew: cargo xtask config, or parlour check --defaults > config/parlour.toml";
    assert!(there == wanted, "the file parts from the documented defaults at {parted:?}; {cure}");
}

#[test]
fn the_default_file_says_what_an_empty_one_says() {
    let (whole, empty) = (loaded(&render_default_config()).unwrap(), loaded("").unwrap());
    assert_eq!(format!("{whole:?}"), format!("{empty:?}"));
}

#[test]
fn the_development_configuration_has_no_fault() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/dev.toml")).unwrap();
    assert!(loaded(&text).is_ok(), "{:?}", loaded(&text));
}

#[test]
fn every_key_of_the_table_is_read_and_documented() {
    let mut reader = Reader::new("p.toml", Sets::new(), Vec::new());
    Settings::read(&mut reader);
    for section in SECTIONS {
        for key in section.keys {
            assert!(reader.read_so_far().contains(&section.path(key)), "{} is never read", section.path(key));
            assert!(key.doc.ends_with(['.', ';', ')']) && key.doc.len() > 8, "{}: {}", section.path(key), key.doc);
            if let Preset::Toml(text) | Preset::Derived(text) = key.preset {
                assert!(source::one_value(text).is_some(), "{}: {text}", section.path(key));
            }
        }
    }
    let keys: usize = SECTIONS.iter().map(|section| section.keys.len()).sum();
    assert_eq!(reader.read_so_far().len(), keys);
}

#[test]
fn the_store_has_its_own_defaults() {
    assert_eq!(loaded("").unwrap().settings.storage_config(), storage::Config::default());
}

#[test]
fn two_lines_are_enough() {
    let settings = loaded("domain = \"Example.ORG\"\ndata_dir = \"/var/lib/parlour\"\n").unwrap().settings;
    assert_eq!(settings.domains, ["example.org"]);
    assert_eq!(settings.token_file(), Path::new("/var/lib/parlour/admin.token"));
    assert_eq!(settings.realm_of("example.org"), "example.org");
    assert_eq!(settings.sip.udp, ["127.0.0.1:5060".parse().unwrap()]);
    assert_eq!(settings.limits.message_bytes, base::limits::PAGE_BODY_BYTES_MAX);
}

#[test]
fn a_fault_is_told_with_file_line_key_reason_and_what_to_do() {
    assert_eq!(
        report("domain = \"x.y\"\n[sip]\nudp = [\"not an address\"]\n"),
        "p.toml:3: sip.udp: \"not an address\" is no socket address (write host:port with the host's address, such as \
         \"127.0.0.1:5060\" or \"[::1]:5060\")"
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let report = report(
        "domain = 7\ncolour = \"red\"\n[sip]\nudp = [\"nowhere\", 5, \"127.0.0.1:5070\"]\n[http]\nlisten = 7\n[storage]\nengine = \"paper\"\n",
    );
    let lines: Vec<_> = report.lines().collect();
    let starts = [
        "p.toml:1: domain",
        "p.toml:2: colour",
        "p.toml:4: sip.udp",
        "p.toml:4: sip.udp",
        "p.toml:6: http.listen",
        "p.toml:8: storage.engine",
    ];
    assert_eq!(lines.len(), starts.len(), "{report}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line} does not start with {start}");
    }
}

#[test]
fn each_faulty_value_is_named() {
    for (text, key, words) in [
        ("domain = \"\"", "domain", "no domain"),
        ("domain = \"a..b\"", "domain", "no domain"),
        ("domain = \"-a.b\"", "domain", "no domain"),
        ("domains = []", "domains", "is empty"),
        ("domains = [\"a.b\", \"A.B\"]", "domains", "twice"),
        ("domain = \"a.b\"\ndomains = [\"a.b\"]", "domains", "keep one"),
        ("data_dir = \"\"", "data_dir", "no path"),
        ("data_dir = \"Cargo.toml\"", "data_dir", "no directory"),
        ("shards = -1", "shards", "0 to 1024"),
        ("shards = \"two\"", "shards", "no number"),
        ("log = \"inof\"", "log", "no log filter"),
        ("sip = 5", "sip", "is a table"),
        ("[sip]\nudp = \"127.0.0.1:5060\"", "sip.udp", "no list"),
        ("[sip]\nudp = [\"localhost:5060\"]", "sip.udp", "no socket address"),
        ("[sip]\nudp = [\"127.0.0.1:0\"]", "sip.udp", "above 0"),
        ("[sip]\nudp = [\"[::1]:5060\", \"[::1]:5060\"]", "sip.udp", "twice"),
        ("[sip]\nupd = []", "sip.upd", "did you mean sip.udp?"),
        ("[sip]\ntls = [\"127.0.0.1:5061\"]", "sip.tls", "needs a certificate"),
        ("[sip]\ntls = [\"127.0.0.1:5061\"]", "sip.tls", "not built into this version"),
        ("[msrp]\ntcp = [\"127.0.0.1:5060\"]", "msrp.tcp", "sip.tcp listens too"),
        ("[msrp]\nrelay = 1", "msrp.relay", "true or false"),
        ("[http]\ntls = true", "http.tls", "not built"),
        ("[admin]\nlisten = \"127.0.0.1:8080\"", "admin.listen", "http.listen listens too"),
        ("[admin]\ntoken_file = \"/tmp\"", "admin.token_file", "is a directory"),
        ("[tls]\ncert = \"no-such-file.pem\"", "tls.cert", "cannot be read"),
        ("[tls]\ncert = \"Cargo.toml\"", "tls.key", "is missing beside"),
        ("[dns]\nservers = [\"dns.example.com\"]", "dns.servers", "no socket address"),
        ("[dns]\nservers = [\"127.0.0.1\", \"127.0.0.1:53\"]", "dns.servers", "stands there twice"),
        ("[dns]\nservers = [\"0.0.0.0\"]", "dns.servers", "nobody's address"),
        ("[dns]\nenum_suffix = \"a..b\"", "dns.enum_suffix", "no domain"),
        ("[dns]\ncountry = \"+49\"", "dns.country", "country code"),
        ("[dns]\ncountry = \"0\"", "dns.country", "country code"),
        ("[federation]\nallow = [\"a b\"]", "federation.allow", "no domain"),
        ("[federation]\ndeny = [\"example.com\"]", "federation.deny", "served here"),
        ("[federation]\nrate = -1", "federation.rate", "out of range"),
        ("[auth]\nrealm = \"a\\\"b\"", "auth.realm", "without quotes"),
        ("[auth]\nalgorithms = [\"SHA-1\"]", "auth.algorithms", "no choice here"),
        ("[auth]\nalgorithms = []", "auth.algorithms", "is empty"),
        ("[auth]\nalgorithms = [\"MD5\", \"MD5\"]", "auth.algorithms", "twice"),
        ("[auth]\ntrusted_peers = [\"10.0.0.1/8\"]", "auth.trusted_peers", "10.0.0.0/8"),
        ("[auth]\ntrusted_peers = [\"a b\"]", "auth.trusted_peers", "p.example.net"),
        ("[auth]\ntrusted_peers = [\"p.example.net\"]", "auth.trusted_peers", "speaks TLS"),
        ("[storage]\ndurability = \"hope\"", "storage.durability", "\"fsync\" or \"os\""),
        ("[storage]\npartitions = 0", "storage.partitions", "1 to 4096"),
        ("[history]\nnotices = [95, 80]", "history.notices", "does not rise"),
        ("[history]\nnotices = [101]", "history.notices", "1 to 100"),
        ("[im]\ndirect = true", "im.direct", "not built"),
        ("[im]\nsystem = \"im-history\"", "im.system", "history.service"),
        ("[xdm]\nadmins = [\"alice\"]", "xdm.admins", "no address of record"),
        ("[xdm]\nremote = { a = \"ftp://x\" }", "xdm.remote", "a: \"ftp://x\" is no HTTP address"),
        ("[ims]\nuri = \"im.example.com\"", "ims.uri", "no SIP URI"),
        ("[sip]\nservice_route = [\"edge\"]", "sip.service_route", "no SIP URI"),
        ("[ims]\nuri = \"sip:im.example.com;lr\"", "ims.uri", "not built"),
        ("[limits]\nmessage_bytes = 1_000_000", "limits.message_bytes", "out of range"),
        (
            "[limits]\nbinding_seconds_min = 100\nbinding_seconds_max = 99",
            "limits.binding_seconds_min",
            "binding_seconds_max",
        ),
        ("[limits]\nconnections = 99999999999999999999", "limits.connections", "out of range"),
        ("[deferred]\nfull = \"throw away\"", "deferred.full", "\"refuse\""),
        ("[deferred]\nsilence_seconds = 60", "deferred.silence_seconds", "1 to 30"),
        ("[charging]\nenabled = true", "charging.enabled", "not built"),
        ("[sigcomp]\nenabled = true", "sigcomp.enabled", "not built"),
        ("[intercept]\nenabled = true", "intercept.enabled", "not built"),
        ("[cluster]\nenabled = true", "cluster.enabled", "not built"),
        ("[presence]\nanything = 1", "presence.anything", "no such key"),
        ("[sip]\nudp = [\"127.0.0.1:1\"]\nudp = []", "", "this is no TOML"),
    ] {
        let report = report(text);
        let line = report.lines().find(|line| line.contains(words));
        assert!(line.is_some_and(|line| line.contains(key)), "{text:?} said {report:?}, not {words:?} of {key}");
    }
}

#[test]
fn a_faulty_element_hides_no_fault_of_the_others() {
    for (text, wanted) in [
        (
            "[sip]\nudp = [\"127.0.0.1:1\", \"nowhere\", \"127.0.0.1:1\"]",
            &["\"nowhere\" is no socket address", "127.0.0.1:1 stands there twice"][..],
        ),
        (
            "[sip]\ntcp = [\"127.0.0.1:1\", 5]\n[msrp]\ntcp = [\"127.0.0.1:1\"]",
            &["5 is no socket address", "127.0.0.1:1 is where sip.tcp listens too"],
        ),
        ("domains = [\"a.b\", \"\", \"A.B\"]", &["\"\" is no domain", "\"a.b\" stands there twice"]),
        ("domains = [\"\"]", &["\"\" is no domain"]),
        ("[federation]\ndeny = [7, \"example.com\"]", &["7 is no domain", "is served here"]),
        ("[auth]\nalgorithms = [\"MD5\", \"SHA-1\", \"MD5\"]", &["no choice here", "\"MD5\" stands there twice"]),
        ("[auth]\nalgorithms = [\"SHA-1\"]", &["no choice here"]),
        ("[history]\nnotices = [90, 0, 80]", &["0 is out of range", "does not rise"]),
    ] {
        let report = report(text);
        assert_eq!(report.lines().count(), wanted.len(), "{text}: {report}");
        for words in wanted {
            assert!(report.contains(words), "{text}: {words} is not in {report}");
        }
    }
}

#[test]
fn the_preset_behind_a_faulty_value_is_nobodys_fault() {
    for text in [
        "[http]\nlisten = 7\n[msrp]\ntcp = [\"127.0.0.1:8080\"]",
        "[sip]\ntcp = [\"nowhere\"]\n[msrp]\ntcp = [\"127.0.0.1:5060\"]",
        "[im]\nsystem = 7\nexploder = \"im-system\"",
    ] {
        assert_eq!(report(text).lines().count(), 1, "{text}: {}", report(text));
    }
}

#[test]
fn what_is_right_is_taken() {
    for text in [
        "domains = [\"a.example\", \"b.example\"]",
        "[sip]\nudp = [\"[::1]:5060\", \"0.0.0.0:5070\"]\ntcp = []",
        "[admin]\nlisten = \"[::1]:9090\"\ntoken_file = \"elsewhere.token\"",
        "[dns]\nservers = [\"127.0.0.1:5300\", \"9.9.9.9\"]\ncountry = \"49\"",
        "[federation]\nallow = [\"a.example\"]\ndeny = [\"b.example\"]\nrequire_tls = false\nrate = 0",
        "[auth]\nrealm = \"Our house\"\nalgorithms = [\"MD5\"]\ntrusted_peers = [\"10.0.0.0/8\", \"::1\"]",
        "[storage]\ndurability = \"os\"\nengine = \"rocksdb\"",
        "[history]\nlimit = 300000\nnotices = []",
        "[rooms]\n[presence]\n[overload]\n",
        "[deferred]\nmessages_per_user = 0",
    ] {
        assert!(loaded(text).is_ok(), "{text}: {:?}", loaded(text));
    }
}

#[test]
fn what_stays_closed_is_said_and_is_no_fault() {
    let notices = loaded("[history]\nlimit = 5\n").unwrap().notices;
    for words in ["http.listen: 127.0.0.1:8080 stays closed", "history.limit"] {
        assert!(notices.iter().any(|notice| notice.contains(words)), "{words} in {notices:?}");
    }
    let public = loaded("[admin]\nlisten = \"0.0.0.0:9090\"\n").unwrap().notices;
    assert!(public.iter().any(|notice| notice.contains("no loopback")), "{public:?}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = [
        ("PARLOUR__DOMAIN", "env.example"),
        ("PARLOUR__SIP__UDP", "[\"127.0.0.2:5060\"]"),
        ("PARLOUR__LIMITS__MESSAGE_BYTES", "99"),
        ("PARLOUR__DNS__COUNTRY", "49"),
        ("PARLOUR_BIN", "none of ours"),
        ("HOME", "/root"),
    ];
    let settings = loaded_with("domain = \"file.example\"\n[sip]\nudp = [\"wrong\"]\n", &env).unwrap().settings;
    assert_eq!(settings.domains, ["env.example"]);
    assert_eq!(settings.sip.udp, ["127.0.0.2:5060".parse().unwrap()]);
    assert_eq!(settings.limits.message_bytes, 99);
    assert_eq!(settings.dns.country, "49", "a bare number where a text is wanted");
}

#[test]
fn a_fault_of_the_environment_names_the_variable() {
    for (variable, value, words) in [
        (
            "PARLOUR__HTTP__LISTEN",
            "not an address",
            "PARLOUR__HTTP__LISTEN: http.listen: \"not an address\" is no socket address",
        ),
        (
            "PARLOUR__HTTP__LISTNE",
            "x",
            "PARLOUR__HTTP__LISTNE: http.listne: there is no such key (did you mean http.listen?)",
        ),
        ("PARLOUR__COLOUR", "red", "PARLOUR__COLOUR: colour: there is no such key"),
        ("PARLOUR__SHARDS", "many", "PARLOUR__SHARDS: shards: \"many\" is no number"),
        (
            "PARLOUR__SIP",
            "3",
            "PARLOUR__SIP: sip: is a section, not a key (name a key of it, such as PARLOUR__SIP__UDP)",
        ),
        ("PARLOUR__SIP__", "3", "PARLOUR__SIP__: sip: is a section, not a key"),
        ("PARLOUR__PRESENCE", "3", "PARLOUR__PRESENCE: presence: is a section, and has no keys"),
        ("PARLOUR__", "2", "PARLOUR__: names no key (write PARLOUR__SECTION__KEY, or PARLOUR__KEY for"),
        ("PARLOUR____DOMAIN", "a.b", "PARLOUR____DOMAIN: .domain: names no key (write"),
        ("PARLOUR__SIP__UPD", "[]", "PARLOUR__SIP__UPD: sip.upd: there is no such key (did you mean sip.udp?)"),
    ] {
        let report = loaded_with("", &[(variable, value)]).unwrap_err().to_string();
        assert!(report.contains(words), "{report}");
    }
}
