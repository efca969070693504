//! A real client, baresip: Debian's knows MD5 only, so it meets a server that offers nothing else. A message goes from it
//! to `parlour-client`'s library and back.

use std::process::Command;

use client::Transport;
use support::programs::{self, Talk};

use crate::house::{PATIENCE, house, password};
use crate::person::Person;

#[test]
fn baresip_registers_writes_and_is_written_to() {
    let Some(program) = programs::find("baresip") else { return };
    let node = house(&[("auth.algorithms", r#"["MD5"]"#)], &["alice", "carol"]);
    let mut alice = Person::online(&node, "alice", Transport::Tcp);
    let home = node.folder().join("baresip");
    std::fs::create_dir_all(&home).expect("the folder takes a folder");
    let file = |name: &str, text: &str| std::fs::write(home.join(name), text).expect("the folder takes a file");
    let (sip, password) = (node.sip(), password("carol"));
    file(
        "accounts",
        &format!(
            "<sip:carol@example.com>;auth_user=carol;auth_pass=\"{password}\";outbound=\"sip:{sip}\";regint=600\n"
        ),
    );
    file("contacts", "\"Alice\" <sip:alice@example.com>\n");
    file("config", CONFIG);

    let mut baresip = Talk::start(Command::new(program).arg("-4").arg("-f").arg(&home).env("HOME", &home));
    baresip.wait_for("registered successfully", PATIENCE);
    baresip.say("/contact_next");
    baresip.wait_for("Current contact: Alice", PATIENCE);
    baresip.say("/message Hello from baresip");
    let heard = alice.hears();
    assert_eq!((heard.text.as_deref(), heard.from.as_str()), (Some("Hello from baresip"), "sip:carol@example.com"));
    assert_eq!(alice.writes("carol", "Hello baresip").status, 200, "baresip answers itself");
    baresip.wait_for("sip:alice@example.com: \"Hello baresip\"", PATIENCE);
    baresip.say("/quit");
    baresip.wait_end(PATIENCE);
    assert_eq!(alice.writes("carol", "while you are away").status, 202, "it has taken its binding back");
}

/// The fewest modules with which it starts; no sound, the loopback alone.
const CONFIG: &str = "\
sip_listen 127.0.0.1:0
net_interface 127.0.0.1
audio_channels 1-2
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module_tmp account.so
module_app menu.so
module_app contact.so
";
