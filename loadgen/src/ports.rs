//! Ports of loopback: which are free, and which somebody listens on.

use std::io;
use std::net::{TcpListener, UdpSocket};

use crate::wire::Transport;

/// Whether somebody listens on a port: without speaking to him.
///
/// # Errors
/// There is no `/proc`.
pub fn is_open(port: u16, transport: Transport) -> io::Result<bool> {
    let (table, listens) = match transport {
        Transport::Udp => ("/proc/net/udp", "07"),
        Transport::Tcp => ("/proc/net/tcp", "0A"),
    };
    let suffix = format!(":{port:04X}");
    let text = std::fs::read_to_string(table)?;
    Ok(text.lines().skip(1).any(|line| {
        let mut cells = line.split_whitespace().skip(1);
        cells.next().is_some_and(|local| local.ends_with(&suffix)) && cells.nth(1) == Some(listens)
    }))
}

/// A port that is free for both transports.
///
/// # Errors
/// None of a hundred is.
pub fn free_port() -> io::Result<u16> {
    for _ in 0..100 {
        let probe = UdpSocket::bind("127.0.0.1:0")?;
        let port = probe.local_addr()?.port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
