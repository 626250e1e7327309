//! Trigger.dev's wire contract: routes, the poll's header fields, the dispatch's body, and the answers.
//!
//! Runners `GET /connect`, then hold a `GET /warm-start`; supervisors `POST /warm-start`. Requests that
//! are not well-formed are refused here. The run itself stays opaque.

mod answers;
pub mod dispatch;
mod poll;
mod routes;
mod traceparent;

pub use answers::{ConnectResponses, dispatch_answer, run_head, token_rejection};
pub use dispatch::{DispatchRequest, parse_dispatch};
pub use poll::{PollRequest, RequestHead, TriggerFields, read_poll};
pub use routes::{Route, Side, route};
pub use traceparent::{is_sampled, traceparent_of};
