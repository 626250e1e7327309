//! Attacks on the admin side.

use crate::support::client::{Client, Response};
use crate::{ATTACKER, Attack, Scene};

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "admin_from_the_runner_side",
        what: "requests for status, metrics and cordons on the runner side and on the dispatch side",
        flags: "--dispatch-listen 127.0.0.1:0",
        run: from_the_other_sides,
    },
    Attack {
        name: "cordon_over_the_network",
        what: "a cordon of all honest runners' node, on an admin side that the network can reach",
        flags: "--dispatch-listen 127.0.0.1:0 --admin-listen 0.0.0.0:0",
        run: over_the_network,
    },
    Attack {
        name: "cordon_with_a_guessed_token",
        what: "the same with an admin token, with 12 wrong guesses",
        flags: "--dispatch-listen 127.0.0.1:0 --admin-token-file tests/siege/token",
        run: with_a_guess,
    },
];

fn from_the_other_sides(scene: &Scene) -> String {
    for addr in [scene.broker.runner, scene.broker.dispatch] {
        for path in
            ["/status", "/metrics", "/cordon", "/healthz", "/readyz", "/", "/admin", "/warm-start/../status"]
        {
            for (method, body) in [("GET", ""), ("POST", r#"{"node":"node-1"}"#), ("DELETE", "")] {
                let mut client = Client::connect_from(ATTACKER, addr).expect("connected");
                let answer = client.ask(format!(
                    "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ));
                assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
            }
        }
    }
    assert_eq!(scene.broker.admin("/cordon").json()["cordons"].as_array().map(Vec::len), Some(0));
    "404 each time; nothing was cordoned".to_owned()
}

fn cordon(scene: &Scene, method: &str, authorization: Option<&str>) -> Response {
    let body = r#"{"node":"node-1"}"#;
    let mut addr = scene.broker.admin;
    addr.set_ip([127, 0, 0, 1].into());
    let authorization = authorization.map_or(String::new(), |value| format!("authorization: {value}\r\n"));
    Client::connect_from(ATTACKER, addr).expect("connected").ask(format!(
        "{method} /cordon HTTP/1.1\r\nhost: a\r\n{authorization}content-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn over_the_network(scene: &Scene) -> String {
    for method in ["POST", "DELETE"] {
        let refusal = cordon(scene, method, None);
        assert_eq!(refusal.status, 403, "{refusal:?}");
        assert!(refusal.error().contains("--admin-token-file"), "{refusal:?}");
    }
    "403, which names `--admin-token-file`; nothing was cordoned".to_owned()
}

fn with_a_guess(scene: &Scene) -> String {
    let token = "this is not a secret".replace(' ', "-");
    let guesses = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(format!("Basic {token}")),
        Some(token.clone()),
        Some(format!("Bearer {}", &token[1..])),
        Some(format!("Bearer {}", &token[..token.len() - 1])),
        Some(format!("Bearer {token}x")),
        Some(format!("Bearer {}", token.to_uppercase())),
        Some(format!("Bearer {}", "\u{1}")),
        Some(format!("Bearer Bearer {token}")),
    ];
    for guess in &guesses {
        let refusal = cordon(scene, "POST", guess.as_deref());
        assert!(matches!(refusal.status, 400 | 401), "{guess:?}: {refusal:?}");
    }
    assert_eq!(scene.broker.admin("/cordon").json()["cordons"].as_array().map(Vec::len), Some(0));
    assert!(!scene.broker.log().contains(&token), "the token is in the log");
    // The operator, who has the token, cordons a node without honest runners.
    let body = r#"{"node":"node-2"}"#;
    let answer = Client::connect(scene.broker.admin).ask(format!(
        "POST /cordon HTTP/1.1\r\nhost: a\r\nauthorization: bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(answer.status, 200, "{answer:?}");
    "401 (or 400) each time; the right token works".to_owned()
}
