//! The session of `parlour try`: alice invites bob, they write to each other, she sends him a picture, and hangs up.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use base::Aor;
use bytes::Bytes;
use client::{Client, Ended, Event, Inbox, IncomingCall, Session, SessionOptions};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::wire::Wire;
use super::{STEP, Steps};
use crate::commands::Failure;
use crate::say;

/// Octets of the picture.
const PICTURE: usize = 5 << 20;

/// Plays it between two who are registered.
pub async fn play(
    steps: &mut Steps,
    wire: &Wire,
    alice: &Client,
    bob: &Client,
    bob_hears: &mut Inbox,
    downloads: PathBuf,
) -> Result<(), Failure> {
    let (invited, taken) =
        tokio::join!(within("the invitation", alice.invite(bob.aor(), SessionOptions::default())), async {
            let call = within("the invitation", invitation(bob_hears, alice.aor())).await??;
            // The picture goes to the disk as it comes.
            let options = SessionOptions { setup: call.setup(), download_dir: Some(downloads), ..Default::default() };
            Ok::<_, Failure>(within("the session", call.accept_with(options)).await??)
        });
    let (hers, his) = (invited??, taken?);
    steps.done("session", "alice invites bob, and he accepts: their SIP and their MSRP both go through the server");
    wire.show();

    write(&hers, &his, "Are you there?").await?;
    write(&his, &hers, "Yes. Show me the picture!").await?;
    steps.done("text in the session", "alice to bob and bob to alice, each reported as delivered by who got it");
    wire.show();

    let picture = picture();
    let (began, sent) = (Instant::now(), hash(&picture));
    let (delivery, got) = tokio::join!(
        within("the picture", hers.send_file(Path::new("picture.ppm"), "image/x-portable-pixmap", picture)),
        within("the picture", his.recv())
    );
    let (took, delivery) = (began.elapsed(), delivery?);
    let got = got?.ok_or_else(|| Failure::new("the session ended before the picture had come"))?;
    let file = got.file.ok_or_else(|| Failure::new("the picture is in no file"))?;
    let came = file.sha256_hex();
    if !delivery.is_good() || came != sent {
        return Err(Failure::new(format!("the picture was {delivery}; SHA-256 at alice {sent}, at bob {came}")));
    }
    steps.done(
        "picture in the session",
        &format!("{} MiB from alice to bob in {} ms, SHA-256 on both sides {came}", PICTURE >> 20, took.as_millis()),
    );
    say::out(format!("   bob has it in {}", file.path.display()));
    wire.show();

    let (hung_up, heard) = tokio::join!(within("BYE", hers.close()), within("BYE", his.ended()));
    match (hung_up?, heard?) {
        (Ended::ByUs, Ended::ByPeer(_)) => {}
        (hers, his) => return Err(Failure::new(format!("the session ended {hers:?} for alice and {his:?} for bob"))),
    }
    steps.done("bye", "alice hangs up, and the session is over for both");
    wire.show();
    Ok(())
}

async fn invitation(inbox: &mut Inbox, from: &Aor) -> Result<IncomingCall, Failure> {
    while let Some(event) = inbox.recv().await {
        if let Event::Invited(call) = event {
            call.ring().await;
            return if call.from() == from.as_str() {
                Ok(*call)
            } else {
                Err(Failure::new(format!("the invitation is from {}, not from {from}", call.from())))
            };
        }
    }
    Err(Failure::new("the client has ended"))
}

async fn write(from: &Session, to: &Session, text: &str) -> Result<(), Failure> {
    let (delivery, heard) = tokio::join!(within(text, from.send_text(text)), within(text, to.recv()));
    let (delivery, heard) = (delivery?, heard?);
    let heard = heard.as_ref().and_then(client::Message::text);
    if !delivery.is_good() || heard != Some(text) {
        return Err(Failure::new(format!("{text:?} in the session was {delivery}, and heard as {heard:?}")));
    }
    Ok(())
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::new(format!("{what}: nothing came of it within {} s", STEP.as_secs()));
    timeout(STEP, work).await.map_err(late)
}

/// A picture that nobody has seen: a head of its format, and colours from a small generator.
fn picture() -> Bytes {
    let mut picture = b"P6 1365 1280 255\n".to_vec();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while picture.len() < PICTURE {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        picture.extend_from_slice(&state.to_le_bytes());
    }
    picture.truncate(PICTURE);
    picture.into()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Memory does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
