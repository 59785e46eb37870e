//! The gate: it serves the page, sends each call to the server that has its room, and has the
//! buttons.

use std::error::Error as StdError;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use serde::Deserialize;

use crate::GOODBYE_MAX;
use crate::pitaya::cluster::{Routed, ServerId, rendezvous};
use crate::pitaya::{Acceptor, App, Cluster, Error, Limits, Payload, Rule, Server, Session, State};
use crate::rooms::{Button, Rooms, Shown};

/// What every call for a room begins with.
#[derive(Deserialize)]
struct Titled {
    title: String,
}

#[derive(Deserialize)]
struct Press {
    button: Button,
    room: String,
}

/// Runs until it is asked to stop, and the rooms with it.
pub(crate) fn run(port: u16, secret: String) -> Result<(), Box<dyn StdError>> {
    let clients = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.local_addr()?;
    let servers = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let rooms = Rooms::new(&secret, servers);
    let app = App::new(rooms.clone()).route("servers.watch", watch).route("servers.press", press);
    let told = rooms.clone();
    let cluster = Cluster::secret(secret)
        .id("gate-1")
        .listen(servers.to_string())
        .rule("room", Rule::custom(by_title))
        .on_member(move |event| told.tell(event));
    let starting = rooms.clone();
    let served = Server::new("gate", app)
        .accept(acceptor(clients))
        .cluster(cluster)
        .limits(Limits::default().shutdown_timeout(GOODBYE_MAX))
        .on_ready(move |_| {
            println!("gate    {servers}  http://{clients}/  open it in two tabs");
            ["room-1", "room-2"].into_iter().for_each(|name| starting.start(name));
        })
        .run();
    rooms.stop();
    Ok(served?)
}

/// All calls for one chat room go to the same server, and to another one once that is gone.
fn by_title(call: &Routed<'_>) -> Option<ServerId> {
    let call_for: Titled = serde_json::from_slice(call.payload).ok()?;
    rendezvous(&call_for.title, call.candidates).map(|server| server.id.clone())
}

async fn watch(session: Session, State(rooms): State<Rooms>) -> Result<Vec<Shown>, Error> {
    Ok(rooms.watch(&session))
}

async fn press(State(rooms): State<Rooms>, Payload(press): Payload<Press>) -> Result<(), Error> {
    rooms.press(&press.room, press.button)
}

/// Pages of others must not press the buttons.
fn acceptor(address: SocketAddr) -> Acceptor {
    let own = ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{}", address.port()));
    let page = |acceptor: Acceptor, (path, kind, text)| acceptor.page(path, kind, text);
    PAGES.into_iter().fold(Acceptor::ws(address.to_string()).origins(own), page)
}

const JS: &str = "text/javascript; charset=utf-8";
const PAGES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("../../web/cluster-chat/index.html")),
    ("/chat.css", "text/css; charset=utf-8", include_str!("../../web/chat/chat.css")),
    ("/cluster.css", "text/css; charset=utf-8", include_str!("../../web/cluster-chat/cluster.css")),
    ("/cluster.js", JS, include_str!("../../web/cluster-chat/cluster.js")),
    ("/connection.js", JS, include_str!("../../web/connection.js")),
    ("/pitaya.js", JS, include_str!("../../web/pitaya.js")),
    ("/wire.js", JS, include_str!("../../web/wire.js")),
];
