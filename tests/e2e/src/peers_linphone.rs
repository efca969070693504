//! A real client, liblinphone's `linphonec`, against the default configuration: it answers our SHA-256 challenge, and
//! a message goes from it to `parlour-client`'s library and back.

use std::process::Command;

use client::Transport;
use support::Node;
use support::programs::{self, Talk};

use crate::house::{PATIENCE, house, password};
use crate::person::Person;

#[test]
fn linphone_registers_writes_and_is_written_to() {
    let Some(program) = programs::find("linphonec") else { return };
    let node = house(&[], &["alice", "bob"]);
    let mut alice = Person::online(&node, "alice", Transport::Udp);
    let mut linphone = start(&program, &node, "bob");
    linphone.wait_for("linphonec>", PATIENCE);
    registered(&mut linphone, "bob");

    linphone.say("chat sip:alice@example.com Hello from Linphone");
    let heard = alice.hears();
    assert_eq!((heard.text.as_deref(), heard.from.as_str()), (Some("Hello from Linphone"), "sip:bob@example.com"));
    assert_eq!(alice.writes("bob", "Hello Linphone").status, 200, "Linphone answers itself");
    linphone.wait_for("Message received from sip:alice@example.com: Hello Linphone", PATIENCE);

    linphone.say("unregister");
    linphone.say("quit");
    linphone.wait_end(PATIENCE);
    assert_eq!(alice.writes("bob", "while you are away").status, 202, "it has taken its binding back");
    let mut again = start(&program, &node, "bob");
    again.wait_for("Message received from sip:alice@example.com: while you are away", PATIENCE);
}

/// It has a home of its own: what it remembers is gone with the test.
fn start(program: &std::path::Path, node: &Node, user: &str) -> Talk {
    let home = node.folder().join("linphone");
    std::fs::create_dir_all(home.join(".local/share/linphone")).expect("the folder takes a folder");
    let (sip, password, rc) = (node.sip(), password(user), home.join("linphonerc"));
    let settings = format!(
        "[sip]\nsip_port=-1\nsip_tcp_port=-1\ndefault_proxy=0\nguess_hostname=0\n\
         [auth_info_0]\nusername={user}\npasswd={password}\nrealm=example.com\n\
         [proxy_0]\nreg_proxy=<sip:{sip}>\nreg_route=<sip:{sip};lr>\nreg_identity=sip:{user}@example.com\n\
         reg_expires=600\nreg_sendregister=1\npublish=0\n"
    );
    std::fs::write(&rc, settings).expect("the folder takes a file");
    Talk::start(Command::new(program).arg("-c").arg(&rc).env("HOME", &home).current_dir(&home))
}

/// Asks it until it says so: it writes nothing by itself when it has registered.
fn registered(linphone: &mut Talk, user: &str) {
    let wanted = format!("registered, identity=sip:{user}@example.com");
    crate::house::wait_until("Linphone is registered", || {
        linphone.say("status register");
        std::thread::sleep(std::time::Duration::from_millis(200));
        linphone.written().contains(&wanted)
    });
}
