//! The polls that a worker holds, by key, and everything that counts them.
//!
//! A held poll is in exactly one [`PollState`]. A pool is one key's polls and statistics.

pub mod cordons;
mod hints;
mod index;
mod key;
mod list;
mod names;
mod pool;
mod table;

pub use index::{Index, PollState};
pub use key::{Key, KeyRef};
pub use list::{Links, List};
pub use names::{NO_NAME, Names};
pub use pool::{Pool, PoolId, Relation};
pub use table::Pools;
