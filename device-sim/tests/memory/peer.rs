//! A broker's place, taken by one that treats some connections badly.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

const LISTENER: Token = Token(usize::MAX);
/// How often the thread looks whether anything is wanted of it.
const TURN: Duration = Duration::from_millis(5);
/// The answer to CONNECT: accepted, no session present.
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// What becomes of every connection of an odd number; the others are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    /// It is served, too.
    Served,
    /// Its CONNECT is never answered.
    Silent,
    /// Its session is accepted, and nothing is read from then on.
    Deaf,
}

/// A peer on loopback that accepts sessions and reads their messages of QoS 0; ends on drop.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    wishes: Arc<Wishes>,
    thread: Option<JoinHandle<()>>,
}

/// What is wanted of the peer's thread.
#[derive(Default)]
struct Wishes {
    is_over: AtomicBool,
    is_hung_up: AtomicBool,
}

impl Peer {
    pub(crate) fn start(odd: Odd) -> Self {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let wishes = Arc::new(Wishes::default());
        let shared = Arc::clone(&wishes);
        let thread = thread::spawn(move || serve(listener, odd, &shared));
        Self { address, wishes, thread: Some(thread) }
    }

    /// Closes all connections at once.
    pub(crate) fn hang_up(&self) {
        self.wishes.is_hung_up.store(true, Relaxed);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.wishes.is_over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A connection, and whether its CONNECT was answered.
type Client = (TcpStream, bool);

fn serve(mut listener: TcpListener, odd: Odd, wishes: &Wishes) {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1_024));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    let mut clients: Vec<Option<Client>> = Vec::new();
    while !wishes.is_over.load(Relaxed) {
        poll.poll(&mut events, Some(TURN)).unwrap();
        if wishes.is_hung_up.swap(false, Relaxed) {
            clients.iter_mut().for_each(|place| *place = None);
        }
        for event in &events {
            let Token(number) = event.token();
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut clients);
            } else if let Some(place) = clients.get_mut(number)
                && let Some(client) = place
                && !receive(client, if number % 2 == 1 { odd } else { Odd::Served })
            {
                *place = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, clients: &mut Vec<Option<Client>>) {
    while let Ok((mut stream, _)) = listener.accept() {
        poll.registry().register(&mut stream, Token(clients.len()), Interest::READABLE).unwrap();
        clients.push(Some((stream, false)));
    }
}

/// Reads what has come; false when the connection is over.
fn receive((stream, is_answered): &mut Client, treatment: Odd) -> bool {
    let mut room = vec![0; 64 * 1024];
    while !(treatment == Odd::Silent || treatment == Odd::Deaf && *is_answered) {
        match stream.read(&mut room) {
            Ok(0) => return false,
            Ok(_) if *is_answered => {}
            // A CONNECT is small and comes in one piece.
            Ok(_) => *is_answered = stream.write_all(&CONNACK).is_ok(),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}
