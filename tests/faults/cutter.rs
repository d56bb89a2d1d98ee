//! A way to a server on which connections end in the middle, the nth after so many bytes, one direction
//! after the other; or on which answers are held up.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::backend::Backend;

pub(crate) struct Cutter {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    cuts: AtomicBool,
    connections: AtomicUsize,
    cut: AtomicUsize,
    /// Answers are held up while it is odd, and go on when it changes.
    gate: AtomicUsize,
}

/// Bytes further from one connection to the next: together less than what is said before the first
/// facts, so that each step of that comes to be cut.
const STEPS: [usize; 2] = [97, 13];

impl Cutter {
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, zero) = (AtomicBool::new(false), || AtomicUsize::new(0));
        let shared = Arc::new(Shared { cuts, connections: zero(), cut: zero(), gate: zero() });
        let kept = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else {
                    continue;
                };
                pass_on(&client, &server, &kept);
            }
        });
        Self { port, shared }
    }

    /// The backend's, by this way.
    pub(crate) fn address(&self, backend: &dyn Backend) -> String {
        backend.address().replace(&backend.port().to_string(), &self.port.to_string())
    }

    /// Begins to cut, or ends.
    pub(crate) fn cut(&self, cuts: bool) {
        self.shared.cuts.store(cuts, Ordering::SeqCst);
    }

    /// Holds up all answers from now on.
    pub(crate) fn hold(&self) {
        self.shared.gate.store(1, Ordering::SeqCst);
    }

    /// Lets those go that were held up, and holds up the next ones.
    pub(crate) fn let_held_go(&self) {
        self.shared.gate.store(3, Ordering::SeqCst);
    }

    pub(crate) fn let_go(&self) {
        self.shared.gate.store(0, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.shared.cut.load(Ordering::SeqCst)
    }
}

fn pass_on(client: &TcpStream, server: &TcpStream, shared: &Arc<Shared>) {
    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
    let ends = [(server, client), (client, server)];
    for (direction, (from, to)) in ends.into_iter().enumerate() {
        let allowed = (number % 2 == direction).then(|| number / 2 * STEPS[direction]);
        let ends = [from, to].map(|end| end.try_clone().unwrap());
        let (shared, is_held) = (Arc::clone(shared), direction == 0);
        thread::spawn(move || pump(ends, allowed, is_held, &shared));
    }
}

fn pump(
    [mut from, mut to]: [TcpStream; 2],
    mut allowed: Option<usize>,
    is_held: bool,
    shared: &Shared,
) {
    let mut bytes = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let gate = shared.gate.load(Ordering::SeqCst);
        while is_held && gate % 2 == 1 && shared.gate.load(Ordering::SeqCst) == gate {
            thread::sleep(Duration::from_millis(1));
        }
        let cuts = shared.cuts.load(Ordering::SeqCst);
        let passed = allowed.filter(|_| cuts).map_or(read, |allowed| allowed.min(read));
        if to.write_all(&bytes[..passed]).is_err() {
            break;
        }
        if passed < read {
            shared.cut.fetch_add(1, Ordering::SeqCst);
            break;
        }
        allowed = allowed.map(|allowed| allowed.saturating_sub(passed));
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
