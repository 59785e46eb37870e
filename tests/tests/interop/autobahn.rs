//! Autobahn's cases against the driver's own layer for WebSocket.

use std::collections::BTreeMap;

use crate::app::Echo;
use crate::cases::Transport;
use crate::certificate;
use crate::echo::EchoServer;
use crate::packages;
use crate::table;
use crate::turn;

#[test]
fn no_case_of_autobahn_fails_over_ws() {
    no_case_fails(Transport::Ws);
}

#[test]
fn no_case_of_autobahn_fails_over_wss() {
    no_case_fails(Transport::Wss);
}

#[test]
fn one_wrong_bit_turns_autobahn_red() {
    for transport in [Transport::Ws, Transport::Wss] {
        let Some(verdicts) = play("1.2.*", transport, Echo::OneBitOff) else { return };
        let failed = verdicts.iter().filter(|verdict| verdict.said == "FAILED").count();
        // The first of the eight sends nothing, so there is no bit to be wrong.
        assert_eq!((verdicts.len(), failed), (8, 7), "{verdicts:#?}");
    }
}

fn no_case_fails(transport: Transport) {
    let Some(verdicts) = play("*", transport, Echo::Faithful) else { return };
    let mut counts = BTreeMap::new();
    verdicts.iter().for_each(|verdict| *counts.entry(&*verdict.said).or_insert(0) += 1);
    println!("Autobahn over {}: {counts:?}", transport.name());
    let (passed, failed): (Vec<_>, Vec<_>) = verdicts.iter().partition(|verdict| verdict.passed());
    table::add("Autobahn, kosoku", transport.name(), "-", passed.len(), failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(passed.len(), CASES);
    let loose = verdicts.iter().filter(|verdict| verdict.said == "NON-STRICT");
    assert_eq!(loose.map(|verdict| &*verdict.case).collect::<Vec<_>>(), NON_STRICT);
}

/// How a case went.
#[derive(Debug)]
struct Verdict {
    case: String,
    /// About what was said, and about how it was closed.
    said: String,
    closed: String,
}

impl Verdict {
    fn parse(line: &str) -> Self {
        // The verdict about closing may have several words.
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_else(|| panic!("what is `{line}`?"));
        Self { case: word(), said: word(), closed: word() }
    }

    fn passed(&self) -> bool {
        ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&&*self.said)
            && ["OK", "INFORMATIONAL"].contains(&&*self.closed)
    }
}

fn play(cases: &str, transport: Transport, faith: Echo) -> Option<Vec<Verdict>> {
    let mut script = packages::python("autobahn.py")?;
    let _turn = turn();
    let echo = EchoServer::start(transport, faith);
    script.arg(cases).arg(echo.address().to_string());
    if transport == Transport::Wss {
        script.arg(&certificate::shown().file);
    }
    let played = script.output().unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    Some(String::from_utf8(played.stdout).unwrap().lines().map(Verdict::parse).collect())
}

/// All that are not about an extension.
const CASES: usize = 301;
/// `tests/interop/README.md` says why.
const NON_STRICT: [&str; 2] = ["6.4.3", "6.4.4"];
