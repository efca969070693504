//! Ids of messages that were taken, for ten minutes: a repeat is answered as the first one was, and does nothing (D3).

use base::Aor;
use base::limits::SEEN_EXPIRY_S;

use crate::ask::Ask;
use crate::engine::{Batch, Expect};
use crate::error::StoreError;
use crate::families::Family;
use crate::keys;
use crate::spool::{MessageId, seen_record};
use crate::store::Store;

impl Store {
    /// Notes an id for a recipient; `false`: it was noted already. For messages of which nothing else is stored.
    pub fn note_seen(&self, aor: &Aor, id: &MessageId) -> Ask<bool> {
        let mut batch = Batch::new();
        let until_s = self.now_unix_s() + SEEN_EXPIRY_S;
        batch.put(Family::Seen, keys::seen(aor, id), seen_record(), Expect::Absent, Some(until_s));
        self.commit(self.partition(aor), batch).map(|receipt| match receipt {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(why) => Err(why),
        })
    }

    /// Whether an id was noted for a recipient within the last ten minutes.
    pub fn was_seen(&self, aor: &Aor, id: &MessageId) -> Ask<bool> {
        self.engine().get(self.partition(aor), Family::Seen, keys::seen(aor, id)).map(|row| Ok(row?.is_some()))
    }
}
