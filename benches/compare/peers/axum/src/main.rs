//! A faithful broker on tokio, hyper and axum: the same contract, the four fields as the key, newest poll first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::get;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    deployment: String,
    version: String,
    cpu: u64,
    memory: u64,
}

/// The polls of each key, by number. The last one is the newest.
#[derive(Default)]
struct Pool {
    next_id: u64,
    waiting: HashMap<Key, BTreeMap<u64, oneshot::Sender<Bytes>>>,
}

type Shared = Arc<Mutex<Pool>>;

/// Removes the poll from the pool when its client disconnects.
struct Registration {
    pool: Shared,
    key: Key,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut pool = self.pool.lock().unwrap();
        if let Some(waiters) = pool.waiting.get_mut(&self.key) {
            waiters.remove(&self.id);
            if waiters.is_empty() {
                pool.waiting.remove(&self.key);
            }
        }
    }
}

#[derive(Deserialize)]
struct Dispatch<'a> {
    #[serde(borrow, rename = "dequeuedMessage")]
    message: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    deployment: Deployment,
    background_worker: Worker,
    run: Run,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deployment {
    friendly_id: String,
}

#[derive(Deserialize)]
struct Worker {
    version: String,
}

#[derive(Deserialize)]
struct Run {
    machine: Machine,
}

#[derive(Deserialize)]
struct Machine {
    cpu: f64,
    memory: f64,
}

fn main() {
    let (mut port, mut threads) = (0u16, 1usize);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--port" => port = value.parse().expect("--port PORT"),
            "--threads" => threads = value.parse().expect("--threads 1|2"),
            other => panic!("unknown flag {other}"),
        }
    }
    let runtime = if threads == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    runtime.expect("runtime").block_on(serve(port));
}

async fn serve(port: u16) {
    let socket = tokio::net::TcpSocket::new_v4().expect("socket");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(([127, 0, 0, 1], port).into()).expect("bind");
    let listener = socket.listen(4096).expect("listen");
    let app = Router::new()
        .route("/connect", get(connect))
        .route("/warm-start", get(hold).post(dispatch))
        .with_state(Shared::default());
    axum::serve(NoDelay(listener), app).await.expect("serve");
}

/// A listener that sets TCP_NODELAY, as every peer does.
struct NoDelay(tokio::net::TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, addr)) => {
                    let _ = stream.set_nodelay(true);
                    return (stream, addr);
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

async fn connect() -> Response<Body> {
    json(Bytes::from_static(br#"{"connectionTimeoutMs":30000,"keepaliveMs":300000}"#))
}

async fn hold(State(pool): State<Shared>, headers: HeaderMap) -> Response<Body> {
    let Some(key) = poll_key(&headers) else { return bad_request() };
    let (answer, received) = oneshot::channel();
    let id = {
        let mut pool = pool.lock().unwrap();
        pool.next_id += 1;
        let id = pool.next_id;
        pool.waiting.entry(key.clone()).or_default().insert(id, answer);
        id
    };
    let _registration = Registration { pool, key, id };
    match received.await {
        Ok(message) => json(message),
        Err(_) => bad_request(),
    }
}

async fn dispatch(State(pool): State<Shared>, body: Bytes) -> Response<Body> {
    let Ok(dispatch) = serde_json::from_slice::<Dispatch>(&body) else { return bad_request() };
    let Ok(message) = serde_json::from_str::<Message>(dispatch.message.get()) else { return bad_request() };
    let key = Key {
        deployment: message.deployment.friendly_id,
        version: message.background_worker.version,
        cpu: message.run.machine.cpu.to_bits(),
        memory: message.run.machine.memory.to_bits(),
    };
    let mut run = body.slice_ref(dispatch.message.get().as_bytes());
    let mut pool = pool.lock().unwrap();
    while let Some((_, waiter)) = pool.waiting.get_mut(&key).and_then(BTreeMap::pop_last) {
        match waiter.send(run) {
            Ok(()) => return json(Bytes::from_static(br#"{"didWarmStart":true}"#)),
            Err(unsent) => run = unsent,
        }
    }
    json(Bytes::from_static(br#"{"didWarmStart":false}"#))
}

fn poll_key(headers: &HeaderMap) -> Option<Key> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    Some(Key {
        deployment: text("x-trigger-deployment-id")?.to_owned(),
        version: text("x-trigger-deployment-version")?.to_owned(),
        cpu: number("x-trigger-machine-cpu")?.to_bits(),
        memory: number("x-trigger-machine-memory")?.to_bits(),
    })
}

fn json(body: Bytes) -> Response<Body> {
    Response::builder().header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap()
}

fn bad_request() -> Response<Body> {
    Response::builder().status(StatusCode::BAD_REQUEST).body(Body::empty()).unwrap()
}
