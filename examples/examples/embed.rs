//! A game server in a loop of its own: plain sockets, one thread, no async. A frame decides when.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::thread::sleep;
use std::time::{self, Duration};

use pitaya_core::{
    Codec, ConnConfig, Decode, Dictionary, Encode, Event, Instant, Json, Limits, Node, Reply,
    RouteEntry, RouteTable,
};

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3250")?;
    listener.set_nonblocking(true)?;
    println!("arena  {}  tcp", listener.local_addr()?);

    let routes = vec![RouteEntry::request("arena.move")];
    let routes = RouteTable::new("arena", routes, Json::encode_error)?;
    let config = ConnConfig::new(Json::NAME, Dictionary::default(), Limits::default())?;
    let (mut node, start) = (Node::new(config, routes), time::Instant::now());
    let (mut streams, mut players) = (BTreeMap::new(), BTreeMap::<_, [i32; 2]>::new());
    loop {
        let now = Instant::ZERO + start.elapsed();
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            streams.extend(node.accept(now).map(|conn| (conn, stream)));
        }
        let mut events = Vec::new();
        for (conn, stream) in &mut streams {
            events.extend(node.read(now, *conn, stream));
        }
        events.extend(node.handle_timeout(now));

        for (session, event) in events {
            match event {
                Event::Opened(_) => _ = players.insert(session, [0, 0]),
                Event::Call(call) => {
                    let moved = Json::decode(&call.body).map(|step: [i32; 2]| {
                        let place = players.entry(session).or_default();
                        *place = [0, 1].map(|axis| place[axis].saturating_add(step[axis]));
                        *place
                    });
                    node.reply(now, session, call.key, Reply::encode::<Json>(moved));
                }
                Event::Closed(_) => _ = players.remove(&session),
                Event::Abandoned(_) | Event::Detached(_) | Event::Forward(_) => {}
            }
        }

        let places = Json::encode(&players.values().collect::<Vec<_>>())?;
        for player in players.keys() {
            node.push(now, *player, "onTick", places.clone().into());
        }
        streams.retain(|conn, stream| {
            node.write(now, *conn, stream);
            !node.is_finished(*conn)
        });
        sleep(Duration::from_millis(16));
    }
}
