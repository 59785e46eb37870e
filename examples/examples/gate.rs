//! Where browsers connect. It has no handlers of its own: calls such as `room.hall.greet` go to a
//! server of the kind `room`, of which there may be any number. `gate [PORT] [CLUSTER-ADDRESS]`,
//! or `gate PORT CLUSTER-ADDRESS --discovery mdns` with the feature `mdns`.

use std::env::{args, temp_dir, var};

#[cfg(not(feature = "tokio"))]
use pitaya_smol as pitaya;
#[cfg(feature = "tokio")]
use pitaya_tokio as pitaya;

use pitaya::{Acceptor, App, Cluster, Identity, Server, StartError};

fn main() -> Result<(), StartError> {
    let port = args().nth(1).unwrap_or_else(|| "3250".to_owned());
    let listen = args().nth(2).unwrap_or_else(|| "127.0.0.1:4500".to_owned());
    let cluster = Cluster::secret(secret()?)
        .id("gate-1")
        .listen(&listen)
        .on_member(|event| println!("{event}"));
    // With the feature `mdns`: whoever is in the local network says where it is.
    #[cfg(feature = "mdns")]
    let cluster = match args().nth(4).as_deref() {
        Some("mdns") => cluster.discovery(pitaya::discovery::Mdns::new("pitaya-examples")),
        _ => cluster,
    };
    let page = |acceptor: Acceptor, (path, kind, text)| acceptor.page(path, kind, text);
    Server::new("gate", App::new(()))
        .accept(PAGES.into_iter().fold(Acceptor::ws(format!("127.0.0.1:{port}")), page))
        .cluster(cluster)
        .on_ready(move |addresses| {
            println!("gate    http://{}/  open it in a browser", addresses[0]);
            println!("rooms   find it at {listen}; start some, each in a terminal of its own:");
            println!("  cargo run -p pitaya-examples --example room -- room-1 {listen}");
        })
        .run()
}

/// Whoever has it is of this cluster: `PITAYA_SECRET`, or a file that the first server makes.
fn secret() -> Result<String, StartError> {
    let file = temp_dir().join("pitaya-examples.secret");
    println!("secret  PITAYA_SECRET, or else {}", file.display());
    let secret = var("PITAYA_SECRET").or_else(|_| Identity::secret_file(&file));
    secret.map_err(|why| StartError::Cluster(why.to_string()))
}

const JS: &str = "text/javascript; charset=utf-8";
const PAGES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("../web/gate/index.html")),
    ("/chat.css", "text/css; charset=utf-8", include_str!("../web/chat/chat.css")),
    ("/gate.css", "text/css; charset=utf-8", include_str!("../web/gate/gate.css")),
    ("/gate.js", JS, include_str!("../web/gate/gate.js")),
    ("/connection.js", JS, include_str!("../web/connection.js")),
    ("/pitaya.js", JS, include_str!("../web/pitaya.js")),
    ("/wire.js", JS, include_str!("../web/wire.js")),
];
