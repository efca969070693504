//! What an [`Outbox`](actors::outbox::Outbox) is lent: the writing half of a TCP connection.

use std::io::{self, IoSlice};

use actors::outbox::Writer;
use tokio::net::tcp::OwnedWriteHalf;

/// A TCP connection that takes what it can and never waits.
#[derive(Debug)]
pub struct TcpWriter(pub std::sync::Arc<OwnedWriteHalf>);

impl Writer for TcpWriter {
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }
}
