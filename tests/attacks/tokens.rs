//! Stealing polls: by a bare id, by a token that is not one, by somebody else's.

use crate::Attack;

pub const ATTACKS: &[Attack] = &[];
