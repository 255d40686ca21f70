//! Faults over a port that is not the system's.

use super::*;
use crate::port::sim::{self, Peer, SimPort};

/// Takes whatever comes.
struct Reader(u32, Vec<Vec<u8>>);

impl Sink<u32> for Reader {
    fn interest(&mut self, _key: u64) -> Interest<u32> {
        Interest { read: Reading::Receive(self.0), room: false, place: 0 }
    }

    fn complete(&mut self, _key: u64, completion: Completion<'_>) {
        if let Completion::Received(data) = completion {
            self.1.push(data.to_vec());
        }
    }
}

#[test]
fn faults_are_injected_into_a_port_that_has_no_sockets_of_the_system() {
    let seed = 7;
    sim::begin(&sim::Setup { seed, descriptor_limit: 8, rooms: (4096, 4096), names: Vec::new() });
    let setup = PortSetup { receive_buffer_bytes: 1024, max_connections: 8, receives_per_turn: 100 };
    let (port, mut ring) = FaultyPort::<SimPort>::open(&setup).unwrap();
    port.set_faults(FaultPlan { seed, short_reads_ppm: 1_000_000, ..FaultPlan::default() });
    let at: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let listener = port.listen(&Address::from(at), &ListenOptions { backlog: 8, ..Default::default() }).unwrap();
    let peer = Peer::connect("10.0.0.1:0".parse().unwrap(), at).unwrap();
    sim::run_ms(1_000);
    let accepted = port.accept(&listener).unwrap();
    port.attach(&accepted.socket, 7).unwrap();
    peer.send(&[1; 100]).unwrap();
    sim::run_ms(1_000);
    let mut reader = Reader(FaultyPort::<SimPort>::raw(&accepted.socket), Vec::new());
    while reader.1.iter().map(Vec::len).sum::<usize>() < 100 {
        port.wait(&mut ring, Some(1_000_000), &mut reader).unwrap();
    }
    assert!(reader.1.iter().all(|piece| piece.len() <= 16), "{:?}", reader.1);
}
