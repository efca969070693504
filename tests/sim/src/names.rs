//! Promise: who is called by a name loses nothing and hears his letters in order, whatever the name server does. The world's
//! name server is a table behind a delay; a silent one never answers.

use std::sync::Arc;
use std::time::Duration;

use actors::locator::{Asking, Names, Question};
use locate::Zone;

use crate::disk::Temper;
use crate::order::screen;
use crate::reference::Kind;
use crate::script::seeds;
use crate::world::World;

/// The world's name server.
#[derive(Clone)]
pub struct NameServer {
    zone: Zone,
    /// Nothing: it never answers.
    pause: Option<Duration>,
}

impl NameServer {
    /// Knows the phones of a world by `phone-N.test`.
    fn of(world: &World, pause: Option<Duration>) -> Arc<dyn Names> {
        let zone = world.phones.iter().fold(Zone::new(Duration::from_secs(20)), |zone, phone| {
            zone.address(&format!("phone-{}.test", phone.number), &phone.addr.ip().to_string())
        });
        Arc::new(Self { zone, pause })
    }
}

impl Names for NameServer {
    fn ask(&self, question: &Question) -> Asking {
        let (answer, pause) = (self.zone.answer(question), self.pause);
        Box::pin(async move {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
            answer
        })
    }
}

#[test]
fn letters_for_who_is_called_by_a_name_come_in_order_and_nothing_is_lost() {
    let pauses = [Some(0), Some(40), Some(1_500), None];
    for seed in seeds(24) {
        let mut world = World::new(seed, 2);
        let (writer, reader) = (world.phone(0, false), world.phone(1, false));
        world.phones[reader].is_named = true;
        let pause = pauses[seed as usize % pauses.len()].map(Duration::from_millis);
        world.names = Some(NameServer::of(&world, pause));
        world.start();
        world.register(writer, 3_600);
        world.run(1_000);
        world.set_disk(Temper { write_ms: 1..30, read_ms: 0..60, ..Temper::calm() });
        for _ in 0..20 {
            world.say(writer, 1, Kind::Page, None);
            world.run(60);
        }
        assert_eq!(world.waiting(1).len(), 20, "seed {seed}");
        world.register(reader, 3_600);
        for _ in 0..10 {
            world.run(75);
            world.say(writer, 1, Kind::Page, None);
        }
        if seed % 3 == 0 {
            // What was promised outlives the house; what the locator knew does not.
            world.kill();
            world.run(500);
            world.start();
        }
        world.come_to_rest();
        world.judge();
        let shown = screen(&world, 1);
        assert_eq!((&shown[..20], shown.len()), (&(0..20).collect::<Vec<_>>()[..], 30), "seed {seed}");
    }
}
