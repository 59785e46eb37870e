//! The scenario: what clients send, and what they wait for before they go on.

use pitaya_core::Counter;
use pitaya_tests::raw::{ack, handshake, notify, request};

/// A server somewhere, and clients of it.
pub(crate) trait Stage {
    /// A client connects.
    async fn dial(&mut self, who: &'static str);

    /// A client sends bytes, in one segment if the network lets it.
    async fn send(&mut self, who: &'static str, bytes: &[u8]);

    /// A client sends bytes, every one of them in a segment of its own.
    async fn send_bytewise(&mut self, who: &'static str, bytes: &[u8]);

    /// A client waits for so many packets.
    async fn receive(&mut self, who: &'static str, packets: usize);

    /// The director waits for something to happen to a client on the server.
    async fn happened(&mut self, who: &'static str, event: &str);

    /// The director looks up how often the server counted something so far.
    async fn counted(&mut self, who: &'static str, counter: Counter);

    /// A client will send no more.
    async fn end(&mut self, who: &'static str);

    /// The server shuts down, the clients read to their ends; what happened to each.
    async fn stop(self) -> String;
}

/// One thing that the scenario shows. Each but two has a client of its own, named like it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Element {
    AckWithRequest,
    BadPacket,
    Deadline,
    LateReply,
    CloseWhileRunning,
    EndInsidePacket,
    InFlightBound,
    Kick,
    OneByteSegments,
    Overtaking,
    Waiting,
}

impl Element {
    /// In the order in which they are played.
    pub(crate) const ALL: &[Self] = &[
        Self::AckWithRequest,
        Self::BadPacket,
        Self::Deadline,
        Self::LateReply,
        Self::CloseWhileRunning,
        Self::EndInsidePacket,
        Self::InFlightBound,
        Self::Kick,
        Self::OneByteSegments,
        Self::Overtaking,
        Self::Waiting,
    ];
}

/// Plays everything but what is to be left out.
pub(crate) async fn play(stage: &mut impl Stage, without: Option<Element>) {
    let with = |element| without != Some(element);
    open(stage, REFEREE).await;
    queue(stage, with(Element::Waiting), with(Element::Overtaking)).await;
    for element in Element::ALL.iter().filter(|element| with(**element)) {
        match element {
            Element::AckWithRequest => ack_with_request(stage).await,
            Element::BadPacket => bad_packet(stage).await,
            Element::CloseWhileRunning => close_while_running(stage).await,
            Element::Deadline => deadline(stage).await,
            Element::EndInsidePacket => end_inside_packet(stage).await,
            Element::InFlightBound => in_flight_bound(stage).await,
            Element::Kick => kick(stage).await,
            Element::LateReply => late_reply(stage).await,
            Element::OneByteSegments => one_byte_segments(stage).await,
            Element::Overtaking | Element::Waiting => {}
        }
    }
}

async fn one_byte_segments(stage: &mut impl Stage) {
    let who = "one byte segments";
    stage.dial(who).await;
    stage.send_bytewise(who, &handshake(who)).await;
    stage.receive(who, 1).await;
    let bytes = [ack(), request(300, "hall.echo", "byte by byte")].concat();
    stage.send_bytewise(who, &bytes).await;
    stage.receive(who, 1).await;
}

async fn ack_with_request(stage: &mut impl Stage) {
    let who = "ack with request";
    stage.dial(who).await;
    stage.send(who, &handshake(who)).await;
    stage.receive(who, 1).await;
    stage.send(who, &[ack(), request(1, "hall.echo", "at once")].concat()).await;
    stage.receive(who, 1).await;
}

/// A slow handler, a request that waits for its turn behind it, and one that needs none.
async fn queue(stage: &mut impl Stage, waiting: bool, overtaking: bool) {
    let who = "queue";
    open(stage, who).await;
    let mut bytes = request(1, "hall.slow", "gate 1");
    bytes.extend(waiting.then(|| request(2, "hall.echo", "my turn")).into_iter().flatten());
    bytes.extend(overtaking.then(|| request(3, "hall.peek", "me first")).into_iter().flatten());
    stage.send(who, &bytes).await;
    stage.receive(who, usize::from(overtaking)).await;
    release(stage, "gate 1").await;
    stage.receive(who, 1 + usize::from(waiting)).await;
}

/// A request that waits until its deadline never runs.
async fn deadline(stage: &mut impl Stage) {
    let who = "deadline";
    open(stage, who).await;
    let bytes = [request(1, "hall.wait", "gate 2"), request(2, "hall.hasty", "never runs")];
    stage.send(who, &bytes.concat()).await;
    stage.receive(who, 1).await;
    release(stage, "gate 2").await;
    stage.receive(who, 1).await;
}

/// A request that runs until its deadline and longer is answered once.
async fn late_reply(stage: &mut impl Stage) {
    let who = "late reply";
    open(stage, who).await;
    stage.send(who, &request(1, "hall.hasty", "gate 3")).await;
    stage.receive(who, 1).await;
    stage.send(who, &request(2, "hall.echo", "after it")).await;
    release(stage, "gate 3").await;
    stage.receive(who, 1).await;
    stage.counted(who, Counter::RepliesLate).await;
}

async fn close_while_running(stage: &mut impl Stage) {
    let who = "close while running";
    open(stage, who).await;
    let bytes = [request(1, "hall.leave", "gate 4"), request(2, "hall.echo", "never runs")];
    stage.send(who, &bytes.concat()).await;
    stage.happened(who, "start hall.leave gate 4").await;
    stage.end(who).await;
    stage.happened(who, "closed: closed by the peer").await;
    release(stage, "gate 4").await;
    stage.happened(who, "end hall.leave gate 4").await;
}

/// The bound is four: the fifth and the sixth are read once there is room for them.
async fn in_flight_bound(stage: &mut impl Stage) {
    let who = "in flight bound";
    open(stage, who).await;
    let bodies = ["gate 5", "gate 6", "gate 7", "gate 8", "gate 9", "gate 10"];
    let requests = bodies.iter().zip(1..).map(|(body, id)| request(id, "hall.share", body));
    stage.send(who, &requests.collect::<Vec<_>>().concat()).await;
    stage.happened(who, "start hall.share gate 8").await;
    for (gate, then) in bodies.iter().zip([Some("gate 9"), Some("gate 10"), None, None, None, None])
    {
        release(stage, gate).await;
        stage.receive(who, 1).await;
        if let Some(then) = then {
            stage.happened(who, &format!("start hall.share {then}")).await;
        }
    }
}

async fn kick(stage: &mut impl Stage) {
    let who = "kick";
    open(stage, who).await;
    stage.send(who, &notify("hall.kick", "enough")).await;
    stage.receive(who, 1).await;
    stage.happened(who, "closed: kicked: enough").await;
}

async fn bad_packet(stage: &mut impl Stage) {
    let who = "bad packet";
    open(stage, who).await;
    let bytes = [&request(1, "hall.echo", "before it")[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
    stage.send(who, &bytes).await;
    stage.receive(who, 1).await;
    stage.happened(who, "closed: bad packet: wrong packet type 0x47").await;
}

async fn end_inside_packet(stage: &mut impl Stage) {
    let who = "end inside packet";
    open(stage, who).await;
    stage.send(who, &request(1, "hall.echo", "cut off")[..9]).await;
    stage.end(who).await;
    stage.happened(who, "closed: the stream ended inside a packet").await;
}

async fn open(stage: &mut impl Stage, who: &'static str) {
    stage.dial(who).await;
    stage.send(who, &handshake(who)).await;
    stage.receive(who, 1).await;
    stage.send(who, &ack()).await;
}

/// Lets the handlers go on that wait for a gate.
async fn release(stage: &mut impl Stage, gate: &str) {
    stage.send(REFEREE, &request(1, "hall.open", gate)).await;
    stage.receive(REFEREE, 1).await;
}

const REFEREE: &str = "referee";
