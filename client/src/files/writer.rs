//! The thread that writes: pieces go where they belong, the hash goes along, and a file has its name only when it is whole.
//!
//! ```text
//! open: .NAME.part, new ── write ──> … ── finish ──> NAME, or NAME-2 where that is taken
//!                            └── forget, a fault, or the end of the session ──> removed
//! ```

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{PIECE, ReceivedFile, name, named};

/// How many files of one name a directory takes.
const NAMESAKES: u32 = 10_000;

/// What is to be done.
pub(super) enum Order {
    Open { key: u64, name: String },
    Write { key: u64, at: u64, octets: Vec<u8> },
    Finish { key: u64, octets: u64 },
    Forget { key: u64 },
}

/// What became of a file: said once, and never of one that is forgotten.
pub(super) struct Done {
    pub key: u64,
    pub outcome: io::Result<ReceivedFile>,
}

/// Writes until the session is over.
pub(super) fn write(dir: &Path, mut orders: mpsc::Receiver<Order>, done: &mpsc::UnboundedSender<Done>) {
    let mut files: HashMap<u64, Part> = HashMap::new();
    // Who asked may be gone; so below.
    let tell = |key, outcome| drop(done.send(Done { key, outcome }));
    while let Some(order) = orders.blocking_recv() {
        match order {
            Order::Open { key, name } => match Part::new(dir, name) {
                Ok(part) => drop(files.insert(key, part)),
                Err(error) => tell(key, Err(error)),
            },
            Order::Write { key, at, octets } => {
                if let Some(part) = files.get_mut(&key)
                    && let Err(error) = part.write(at, &octets)
                {
                    files.remove(&key);
                    tell(key, Err(error));
                }
            }
            Order::Finish { key, octets } => {
                if let Some(part) = files.remove(&key) {
                    tell(key, part.finish(dir, octets));
                }
            }
            Order::Forget { key } => drop(files.remove(&key)),
        }
    }
}

/// A file that is coming in; removed when it is dropped.
struct Part {
    file: File,
    path: PathBuf,
    name: String,
    hash: Sha256,
    /// How many octets, from the beginning, the hash is of.
    hashed: u64,
    /// Whether some of those were written anew.
    is_stale: bool,
}

impl Part {
    fn new(dir: &Path, name: String) -> io::Result<Self> {
        // Only we read what we were sent.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| named(dir, &error))?;
        let (path, file) = make(dir, &format!(".{name}"), ".part")?;
        Ok(Self { file, path, name, hash: Sha256::new(), hashed: 0, is_stale: false })
    }

    fn write(&mut self, at: u64, octets: &[u8]) -> io::Result<()> {
        self.put(at, octets).map_err(|error| named(&self.path, &error))?;
        if at == self.hashed {
            self.hash.update(octets);
            self.hashed += octets.len() as u64;
        } else if at < self.hashed {
            // RFC 4975 §7.3.1: what came last takes precedence.
            self.is_stale = true;
        }
        Ok(())
    }

    fn put(&mut self, at: u64, octets: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(octets)
    }

    fn finish(mut self, dir: &Path, octets: u64) -> io::Result<ReceivedFile> {
        let sha256 = self.hash_rest(octets).map_err(|error| named(&self.path, &error))?;
        let (stem, extension) = name::split(&self.name);
        // Whoever has this name first keeps it: the file that is written over is the empty one just made.
        let (path, _) = make(dir, stem, extension)?;
        if let Err(error) = fs::rename(&self.path, &path) {
            let _ = fs::remove_file(&path);
            return Err(named(&path, &error));
        }
        Ok(ReceivedFile { path, bytes: octets, sha256 })
    }

    /// What came out of order is read once more.
    fn hash_rest(&mut self, octets: u64) -> io::Result<[u8; 32]> {
        self.file.set_len(octets)?;
        if self.is_stale || self.hashed > octets {
            (self.hash, self.hashed) = (Sha256::new(), 0);
        }
        self.file.seek(SeekFrom::Start(self.hashed))?;
        let mut buffer = vec![0; PIECE];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(std::mem::take(&mut self.hash).finalize().into()),
                count => self.hash.update(&buffer[..count]),
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It has another name where it is whole.
        let _ = fs::remove_file(&self.path);
    }
}

/// A new file, never one that is there: `a.png`, `a-2.png` and so on.
fn make(dir: &Path, stem: &str, extension: &str) -> io::Result<(PathBuf, File)> {
    for number in 1..=NAMESAKES {
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        let path = dir.join(format!("{stem}{number}{extension}"));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(named(&path, &error)),
        }
    }
    let full = format!("there are {NAMESAKES} files {stem}{extension} already: empty the folder, or name another");
    Err(named(dir, &io::Error::new(io::ErrorKind::AlreadyExists, full)))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Vec<(u64, Result<ReceivedFile, String>)>;

    /// What is in the directory after these orders, and what was told.
    fn after(dir: &Path, orders: Vec<Order>) -> (Vec<String>, Told) {
        let (ask, asked) = mpsc::channel(orders.len().max(1));
        let (tell, mut told) = mpsc::unbounded_channel();
        orders.into_iter().for_each(|order| assert!(ask.try_send(order).is_ok()));
        drop(ask);
        write(dir, asked, &tell);
        let mut outcomes = Vec::new();
        while let Ok(Done { key, outcome }) = told.try_recv() {
            outcomes.push((key, outcome.map_err(|error| error.to_string())));
        }
        let files =
            fs::read_dir(dir).into_iter().flatten().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.collect();
        files.sort();
        (files, outcomes)
    }

    fn open(key: u64, name: &str) -> Order {
        Order::Open { key, name: name.to_owned() }
    }

    fn piece(key: u64, at: u64, octets: &[u8]) -> Order {
        Order::Write { key, at, octets: octets.to_vec() }
    }

    #[test]
    fn a_file_is_the_same_in_whatever_order_it_comes_and_its_hash_too() {
        let dir = tempfile::tempdir().unwrap();
        let orders: [Vec<Order>; 4] = [
            vec![piece(0, 0, b"abcd"), piece(0, 4, b"efgh")],
            vec![piece(0, 4, b"efgh"), piece(0, 0, b"abcd")],
            vec![piece(0, 0, b"abXX"), piece(0, 2, b"cd"), piece(0, 4, b"efgh")],
            vec![piece(0, 0, b"abcdefgh too much")],
        ];
        for (number, pieces) in orders.into_iter().enumerate() {
            let finish = Order::Finish { key: 0, octets: 8 };
            let orders = [open(0, "a.txt")].into_iter().chain(pieces).chain([finish]).collect();
            let (_, outcomes) = after(dir.path(), orders);
            let file = outcomes[0].1.as_ref().unwrap();
            let name = if number == 0 { "a.txt".to_owned() } else { format!("a-{}.txt", number + 1) };
            assert_eq!(file.path, dir.path().join(name), "nothing is written over");
            assert_eq!(fs::read(&file.path).unwrap(), b"abcdefgh");
            assert_eq!(file.sha256, <[u8; 32]>::from(Sha256::digest(b"abcdefgh")), "order {number}");
        }
    }

    #[test]
    fn what_does_not_come_whole_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let orders = vec![
            open(0, "given-up.txt"),
            piece(0, 0, b"x"),
            Order::Forget { key: 0 },
            open(1, "whole.txt"),
            Order::Finish { key: 1, octets: 0 },
            open(2, "never-ended.txt"),
            piece(2, 0, b"x"),
        ];
        let (files, outcomes) = after(dir.path(), orders);
        assert_eq!((files, outcomes.len()), (vec!["whole.txt".to_owned()], 1));
    }

    #[test]
    fn a_directory_that_takes_no_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let (_, outcomes) =
            after(&file, vec![open(7, "a.txt"), piece(7, 0, b"x"), Order::Finish { key: 7, octets: 1 }]);
        let [(7, Err(fault))] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert!(fault.contains(&file.display().to_string()), "{fault}");
    }
}
