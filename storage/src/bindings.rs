//! Where users can be reached: all bindings of an address are one value, replaced whole (D8).

use std::net::{IpAddr, SocketAddr};

use base::Aor;
use bytes::Bytes;

use crate::ask::Ask;
use crate::engine::{Batch, Expect, Row};
use crate::error::StoreError;
use crate::families::Family;
use crate::flow::Flow;
use crate::keys;
use crate::record::{Reader, Writer};
use crate::store::Store;

const KIND: &str = "binding";
/// 2: the life and the connection of each.
const VERSION: u8 = 2;

/// One contact of a user, as it must be known again after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBinding {
    /// The contact URI, whole.
    pub contact: String,
    /// Parameters of the Contact header as they were written: feature tags among them.
    pub params: String,
    /// Preference in thousandths (RFC 3261 §20.10 `q`).
    pub q: u16,
    /// Call-ID of the REGISTER (RFC 3261 §10.3 step 7).
    pub call_id: String,
    /// Number of its CSeq.
    pub cseq: u32,
    /// When it ends, unix seconds.
    pub expires_unix_s: u64,
    /// Transport it came by: a number of the caller's.
    pub transport: u8,
    /// Address it came from.
    pub source: SocketAddr,
    /// Listener it came to: a number of the caller's.
    pub listener: u8,
    /// Path header values (RFC 3327), topmost first.
    pub path: Vec<String>,
    /// `+sip.instance` (RFC 5626).
    pub instance: Option<String>,
    /// The connection that it came by, and the life of the process that gave it its number: to another life it is gone.
    pub connection: Option<(u64, u64)>,
}

fn write(bindings: &[StoredBinding]) -> Bytes {
    let mut record = Writer::new(VERSION);
    record.number(bindings.len() as u64);
    for binding in bindings {
        record.text(&binding.contact).text(&binding.params).number(u64::from(binding.q)).text(&binding.call_id);
        record.number(u64::from(binding.cseq)).number(binding.expires_unix_s).number(u64::from(binding.transport));
        match binding.source.ip() {
            IpAddr::V4(ip) => record.bytes(&ip.octets()),
            IpAddr::V6(ip) => record.bytes(&ip.octets()),
        };
        record.number(u64::from(binding.source.port())).number(u64::from(binding.listener));
        record.number(binding.path.len() as u64);
        for hop in &binding.path {
            record.text(hop);
        }
        record.maybe_text(binding.instance.as_deref());
        let (life, number) = binding.connection.unzip();
        record.maybe_number(life).maybe_number(number);
    }
    record.finish()
}

fn read(record: &Bytes) -> Result<Vec<StoredBinding>, StoreError> {
    let (version, mut fields) = Reader::open(KIND, VERSION, record)?;
    (0..fields.number()?).map(|_| read_one(version, &mut fields)).collect()
}

fn read_one(version: u8, fields: &mut Reader<'_>) -> Result<StoredBinding, StoreError> {
    let (contact, params, q, call_id) = (fields.text()?, fields.text()?, fields.narrow()?, fields.text()?);
    let (cseq, expires_unix_s, transport) = (fields.narrow()?, fields.number()?, fields.narrow()?);
    let octets = fields.bytes()?;
    let ip = <[u8; 4]>::try_from(octets.as_ref())
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets.as_ref()).map(IpAddr::from))
        .map_err(|_| fields.damaged("an address has neither 4 nor 16 octets"))?;
    let source = SocketAddr::new(ip, fields.narrow()?);
    let listener = fields.narrow()?;
    let path = (0..fields.number()?).map(|_| fields.text()).collect::<Result<_, _>>()?;
    let instance = fields.maybe_text()?;
    let connection = if version < 2 { None } else { fields.maybe_number()?.zip(fields.maybe_number()?) };
    Ok(StoredBinding {
        contact,
        params,
        q,
        call_id,
        cseq,
        expires_unix_s,
        transport,
        source,
        listener,
        path,
        instance,
        connection,
    })
}

impl Store {
    /// The bindings of a user that have not ended.
    pub fn bindings(&self, aor: &Aor) -> Ask<Vec<StoredBinding>> {
        let store = self.clone();
        let row = self.engine().get(self.partition(aor), Family::Binding, keys::binding(aor));
        row.map(move |row| row?.map_or(Ok(Vec::new()), |(_, record)| store.standing(&record)))
    }

    /// Replaces the bindings of a user; none removes them. The row lasts as long as the longest of them.
    pub fn put_bindings(&self, aor: &Aor, bindings: &[StoredBinding]) -> Ask<()> {
        let mut batch = Batch::new();
        match bindings.iter().map(|binding| binding.expires_unix_s).max() {
            Some(longest) => {
                batch.put(Family::Binding, keys::binding(aor), write(bindings), Expect::Any, Some(longest));
            }
            None => {
                batch.delete(Family::Binding, keys::binding(aor), Expect::Any);
            }
        }
        self.commit(self.partition(aor), batch).map(|receipt| receipt.map(drop))
    }

    /// Everybody who can be reached, with his bindings: asked at a start.
    pub fn list_bindings(&self) -> Flow<(Aor, Vec<StoredBinding>)> {
        let store = self.clone();
        self.load_all(Family::Binding).map(move |Row { key, value, .. }| {
            let damaged = StoreError::Damaged { kind: KIND, what: "its key names no address of record" };
            let text = std::str::from_utf8(key.bytes()).map_err(|_| damaged.clone())?;
            Ok((Aor::parse(text).map_err(|_| damaged)?, store.standing(&value)?))
        })
    }

    fn standing(&self, record: &Bytes) -> Result<Vec<StoredBinding>, StoreError> {
        let now = self.now_unix_s();
        let mut bindings = read(record)?;
        bindings.retain(|binding| binding.expires_unix_s > now);
        Ok(bindings)
    }
}
