//! Secrets of the house itself, which must be the same after every start: keys of what it gave away to be shown again.

use base::Partition;
use bytes::Bytes;

use crate::engine::{Batch, Expect};
use crate::error::StoreError;
use crate::families::Family;
use crate::keys;
use crate::record::{Reader, Writer};
use crate::store::Store;

const KIND: &str = "secret";
const VERSION: u8 = 1;

impl Store {
    /// The secret of this name: the one that is kept, or else `fresh`, which is kept from now on. Blocks, for a start.
    pub fn secret(&self, name: &str, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let partition = Partition(0);
        let read = || -> Result<Option<[u8; 32]>, StoreError> {
            let row = self.engine().get(partition, Family::Secret, keys::secret(name)).wait()?;
            row.map(|(_, record)| Reader::open(KIND, VERSION, &record)?.1.fixed()).transpose()
        };
        if let Some(kept) = read()? {
            return Ok(kept);
        }
        let mut record = Writer::new(VERSION);
        record.fixed(&fresh);
        let record: Bytes = record.finish();
        let mut batch = Batch::new();
        batch.put(Family::Secret, keys::secret(name), record, Expect::Absent, None);
        self.commit(partition, batch).wait()?;
        // Whoever was faster: what stands is what counts.
        Ok(read()?.unwrap_or(fresh))
    }
}
