//! Every key of the configuration on one page: its name, its default, its unit and what it is for.
//!
//! `config/parlour.toml` is written from this table, the defaults are read from it, and a key that does not stand
//! here is a fault of whoever writes it.

use base::limits;

/// What a key is when nobody sets it.
#[derive(Debug, Clone, Copy)]
pub enum Preset {
    /// This text, as TOML.
    Toml(&'static str),
    /// This number: most are ceilings of `base::limits`.
    Number(u64),
    /// Worked out from other keys, as the doc says; the text is the example that the default file shows.
    Derived(&'static str),
}

/// How much of what a key asks for is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// All of it.
    Built,
    /// The key tunes what is not built into this version: another value than the default is worth a notice.
    Later,
    /// The key switches on what is not built into this version: another value than the default is a fault.
    Asks(&'static str),
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name inside its section.
    pub name: &'static str,
    /// What it is when nobody sets it.
    pub preset: Preset,
    /// Unit of the value, or nothing.
    pub unit: &'static str,
    /// What it is for, as the default file says it.
    pub doc: &'static str,
    /// Whether what it asks for is there.
    pub stage: Stage,
}

/// One table of the file, or the keys above all tables.
#[derive(Debug)]
pub struct Section {
    /// Name of the table; empty for the keys above.
    pub name: &'static str,
    /// What it is for, as the default file says it.
    pub doc: &'static str,
    /// Its keys, in the order of the file.
    pub keys: &'static [Key],
}

impl Section {
    /// The whole name of one of its keys: `sip.udp`, `data_dir`.
    pub fn path(&self, key: &Key) -> String {
        if self.name.is_empty() { key.name.to_owned() } else { format!("{}.{}", self.name, key.name) }
    }
}

/// The key of that whole name.
pub fn find(path: &str) -> Option<&'static Key> {
    let (section, name) = match path.split_once('.') {
        // `.domain` is not `domain`.
        Some(("", _)) => return None,
        Some(both) => both,
        None => ("", path),
    };
    SECTIONS.iter().find(|each| each.name == section)?.keys.iter().find(|key| key.name == name)
}

const fn text(name: &'static str, preset: &'static str, doc: &'static str) -> Key {
    Key { name, preset: Preset::Toml(preset), unit: "", doc, stage: Stage::Built }
}

const fn number(name: &'static str, preset: u64, unit: &'static str, doc: &'static str) -> Key {
    Key { name, preset: Preset::Number(preset), unit, doc, stage: Stage::Built }
}

const fn derived(name: &'static str, example: &'static str, doc: &'static str) -> Key {
    Key { name, preset: Preset::Derived(example), unit: "", doc, stage: Stage::Built }
}

const fn later(key: Key) -> Key {
    Key { stage: Stage::Later, ..key }
}

const fn asks(what: &'static str, key: Key) -> Key {
    Key { stage: Stage::Asks(what), ..key }
}

/// All of them, in the order of the file.
pub static SECTIONS: &[Section] = &[
    Section {
        name: "",
        doc: "",
        keys: &[
            text("domain", r#""example.com""#, "The domain that is served. Several: `domains`, in place of it."),
            derived("domains", r#"["example.com", "example.net"]"#, "All domains that are served, the main one first."),
            text("data_dir", r#""data""#, "Where the store lies. A relative path starts at the working directory."),
            number("shards", 0, "threads", "Threads that serve, each with its own share of the users; 0: one a core."),
            text("log", r#""info""#, "The log filter at start: a level, then levels by crate: \"info,net=debug\"."),
        ],
    },
    Section {
        name: "sip",
        doc: "Where SIP is spoken.",
        keys: &[
            text("udp", r#"["127.0.0.1:5060"]"#, "Addresses for UDP."),
            text("tcp", r#"["127.0.0.1:5060"]"#, "Addresses for TCP."),
            asks("SIP over TLS", text("tls", "[]", "Addresses for TLS: [\"0.0.0.0:5061\"]; needs [tls].")),
            text(
                "service_route",
                "[]",
                "Where requests of clients that registered are to pass (Service-Route): [\"sip:edge.example.com;lr\"]; empty: anywhere.",
            ),
        ],
    },
    Section {
        name: "msrp",
        doc: "Where MSRP is spoken: sessions, rooms, large messages.",
        keys: &[
            text("tcp", r#"["127.0.0.1:2855"]"#, "Addresses for TCP."),
            asks("MSRP over TLS", text("tls", "[]", "Addresses for TLS; needs [tls].")),
            later(text("relay", "true", "Whether the TLS addresses are a relay for clients (AUTH, RFC 4976).")),
        ],
    },
    Section {
        name: "http",
        doc: "XCAP below /xcap-root, SIP and MSRP over WebSocket at /sip and /msrp, and the web client.",
        keys: &[
            text("listen", r#""127.0.0.1:8080""#, "The address."),
            asks("HTTPS", text("tls", "false", "Whether it speaks TLS; needs [tls].")),
        ],
    },
    Section {
        name: "admin",
        doc: "Health, metrics, the supervision tree, users, the log filter. Never public.",
        keys: &[
            text("listen", r#""127.0.0.1:9090""#, "The address."),
            derived(
                "token_file",
                r#""data/admin.token""#,
                "The token that all but health and metrics need. Default: admin.token in data_dir. Made at the first start, mode 0600.",
            ),
        ],
    },
    Section {
        name: "tls",
        doc: "Our certificate (PEM), for every address that speaks TLS.",
        keys: &[
            text("cert", r#""""#, "File with the certificate and its chain."),
            text("key", r#""""#, "File with its private key."),
            text("ca", r#""""#, "File with further roots for peers' certificates, beside the system's."),
        ],
    },
    Section {
        name: "dns",
        doc: "How other domains and telephone numbers are looked up.",
        keys: &[
            text("servers", "[]", "Name servers: [\"127.0.0.1:5300\"]; empty: the system's."),
            text("enum_suffix", r#""e164.arpa""#, "The zone of ENUM (RFC 6116)."),
            text(
                "country",
                r#""""#,
                "\"49\": numbers that begin with 0 are national ones (+49...); empty: only +... is a number.",
            ),
        ],
    },
    Section {
        name: "federation",
        doc: "Other domains, found by NAPTR, SRV and addresses.",
        keys: &[
            text("allow", r#"["*"]"#, "Domains that we speak with; \"*\": all."),
            text("deny", "[]", "Domains that we do not speak with; wins over `allow`."),
            text("require_tls", "true", "false: plain TCP and UDP too, as DNS says."),
            number("rate", 1_000, "requests a second", "From one domain; above it 503 with Retry-After. 0: no limit."),
        ],
    },
    Section {
        name: "auth",
        doc: "Who is who. Passwords are kept for one realm: whoever changes it needs new ones.",
        keys: &[
            derived("realm", r#""example.com""#, "Realm of Digest. Default: the domain, of several the user's own."),
            text(
                "algorithms",
                r#"["SHA-256", "MD5"]"#,
                "Of the challenges, in this order; [\"MD5\"] for clients that give up at one they do not know.",
            ),
            text(
                "trusted_peers",
                "[]",
                "Networks (\"10.0.0.0/8\") and names in TLS certificates (\"p.example.net\") that are not challenged: their P-Asserted-Identity, else From, is believed.",
            ),
        ],
    },
    Section {
        name: "storage",
        doc: "What lasts.",
        keys: &[
            text("engine", r#""rocksdb""#, "\"rocksdb\": embedded, on this machine."),
            text(
                "durability",
                r#""fsync""#,
                "\"fsync\": an acknowledged message is on the disk; \"os\": in the kernel, a power cut may lose it.",
            ),
            derived(
                "partitions",
                "64",
                "Partitions of a new store, 64 where nothing is said. A store that was made with another number is refused.",
            ),
            number("cache_bytes", 16 << 20, "octets", "Blocks that were read and are kept in memory."),
            number("write_buffer_bytes", 32 << 20, "octets", "Records in memory before they are written in order."),
        ],
    },
    Section {
        name: "history",
        doc: "Stored conversations.",
        keys: &[
            later(number(
                "limit",
                10_485_760,
                "octets",
                "Per user, where the user has no limit of his own. 0: no limit.",
            )),
            later(text(
                "notices",
                "[80, 95, 100]",
                "Percent of the limit at which the owner gets a system message; []: none.",
            )),
            later(text("service", r#""im-history""#, "User part of the address that serves them, in every domain.")),
        ],
    },
    Section {
        name: "im",
        doc: "Sessions and page messages.",
        keys: &[
            asks(
                "sessions past the server",
                text(
                    "direct",
                    "false",
                    "true: the SDP of a one-to-one session passes unchanged, clients connect to each other.",
                ),
            ),
            asks(
                "rejecting by a user's rules",
                text(
                    "polite_block",
                    "false",
                    "true: who is rejected gets 202 to MESSAGE and 480 to INVITE, in place of 403.",
                ),
            ),
            asks(
                "handing over in a session",
                text(
                    "page_to_session",
                    "false",
                    "true: a page message to a client that takes no MESSAGE is handed over in a session.",
                ),
            ),
            number(
                "session_idle",
                limits::SESSION_IDLE.as_secs(),
                "seconds",
                "A session in which nothing is said is ended after this; 0: never.",
            ),
            number(
                "session_timer",
                limits::SESSION_TIMER.as_secs(),
                "seconds",
                "The interval in which each end of a session is asked to show that it is there (RFC 4028), where it asks \
                 for none itself; 0: it is not asked.",
            ),
            number(
                "session_timer_min",
                limits::SESSION_TIMER_MIN.as_secs(),
                "seconds",
                "The shortest such interval that a client may ask for, 90 at least; 422 below.",
            ),
            later(text("exploder", r#""im-exploder""#, "User part of the address that takes a MESSAGE to a list.")),
            later(text("system", r#""im-system""#, "User part of the address that system messages come from.")),
        ],
    },
    Section {
        name: "xdm",
        doc: "Documents (XCAP).",
        keys: &[
            asks(
                "XCAP",
                text(
                    "root",
                    r#""""#,
                    "How documents of this server are called in anchors and in xcap-diff; empty: by [http] listen.",
                ),
            ),
            asks(
                "XCAP",
                text("admins", "[]", "Addresses of record that may read and write every tree, the global one too."),
            ),
            asks(
                "XCAP",
                text(
                    "remote",
                    "{}",
                    "AUID = \"http://10.0.0.7:8080/xcap-root\": an XDMS elsewhere; a time-out there is 504.",
                ),
            ),
        ],
    },
    Section {
        name: "ims",
        doc: "Application server of an IMS core.",
        keys: &[
            asks(
                "the IMS profile",
                text(
                    "uri",
                    r#""""#,
                    "Our Route as application server of the trusted peers: \"sip:im.example.com;lr\"; empty: off.",
                ),
            ),
            asks(
                "the IMS profile",
                text(
                    "scscf",
                    r#""""#,
                    "Where requests of our own go for a user that no third-party REGISTER has shown.",
                ),
            ),
        ],
    },
    Section { name: "limits", doc: "Every ceiling that a peer can hit.", keys: LIMITS },
    Section {
        name: "rooms",
        doc: "Chat rooms and groups.",
        keys: &[
            later(text("factory", r#""im-conf-factory""#, "User part of the address that makes ad hoc groups.")),
            later(text("host", r#""conference""#, "Rooms of the operator are NAME@HOST.DOMAIN.")),
        ],
    },
    Section { name: "deferred", doc: "Messages that wait for who is away.", keys: DEFERRED },
    Section { name: "presence", doc: "Presence. It has no keys in this version.", keys: &[] },
    Section {
        name: "charging",
        doc: "Charging (Diameter).",
        keys: &[asks("charging", text("enabled", "false", "Whether messages are charged for."))],
    },
    Section {
        name: "sigcomp",
        doc: "Compressed signalling (RFC 3320).",
        keys: &[asks("SigComp", text("enabled", "false", "Whether compressed SIP is taken."))],
    },
    Section {
        name: "intercept",
        doc: "Lawful interception.",
        keys: &[asks("interception", text("enabled", "false", "Whether targets are watched."))],
    },
    Section {
        name: "cluster",
        doc: "More than one node.",
        keys: &[asks("a cluster", text("enabled", "false", "Whether this node is one of several."))],
    },
    Section { name: "overload", doc: "Overload control. It has no keys in this version.", keys: &[] },
];

static LIMITS: &[Key] = &[
    number(
        "message_bytes",
        limits::PAGE_BODY_BYTES_MAX as u64,
        "octets",
        "The body of a page message; a larger one is answered 413.",
    ),
    number("bindings_per_user", limits::BINDINGS_PER_USER_MAX as u64, "", "Contacts that one user may have at once."),
    number("binding_seconds_min", 1, "seconds", "The shortest registration; a shorter one is answered 423."),
    number("binding_seconds_max", limits::BINDING_EXPIRY_S_MAX as u64, "seconds", "The longest; more is shortened."),
    number("connections", limits::CONNECTIONS_MAX as u64, "", "Connections of all listeners together."),
    number("connections_per_source", limits::CONNECTIONS_PER_SOURCE_MAX as u64, "", "Connections of one address."),
    number(
        "challenges_per_source",
        limits::CHALLENGES_PER_SOURCE_PER_S_MAX as u64,
        "requests a second",
        "Requests without credentials that one address may send; the rest is dropped. 0: no limit.",
    ),
    number(
        "head_seconds",
        limits::HEAD_TIME_MAX.as_secs(),
        "seconds",
        "Who has begun a message on a connection has this long to end its head.",
    ),
    number(
        "silent_connection_seconds",
        limits::SILENT_CONNECTION_MAX.as_secs(),
        "seconds",
        "A connection over which nothing whole has ever come is closed after this.",
    ),
    number(
        "idle_connection_seconds",
        limits::IDLE_CONNECTION_MAX.as_secs(),
        "seconds",
        "A connection that carried something is kept this long without an octet.",
    ),
];

static DEFERRED: &[Key] = &[
    number("messages_per_user", limits::LETTERS_PER_USER_MAX as u64, "", "Messages that may wait for one user."),
    number(
        "bytes_per_user",
        limits::LETTER_BYTES_PER_USER_MAX,
        "octets",
        "What they may take together, heads and bodies.",
    ),
    text("full", r#""refuse""#, "What happens when they are: \"refuse\": the sender is answered 480."),
    number(
        "expiry",
        limits::LETTER_EXPIRY_S,
        "seconds",
        "How long a message waits whose sender names no time; it is also the longest.",
    ),
    number(
        "silence_seconds",
        limits::SILENCE.as_secs(),
        "seconds",
        "A receiver who does not answer for this long counts as away.",
    ),
    later(text("service", r#""im-deferred""#, "User part of the address that gives out what waits.")),
];
