//! Why a dispatch's body is refused.

use super::field::Field;
use crate::broker::http::Rejection;
use crate::broker::json::JsonError;
use std::fmt;

/// Why a dispatch's body is refused. Eight bytes, so that results fit in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchError {
    /// The body is not JSON.
    Json(JsonError),
    /// A field has another type.
    Type(Field),
    /// A field is missing.
    Missing(Field),
    /// A field occurs twice.
    Repeated(Field),
    /// A field's text contains half of a surrogate pair, so it is not Unicode.
    Surrogate(Field),
    /// A number does not fit a 64-bit float.
    Range(Field),
}

impl fmt::Display for DispatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DispatchError::Json(error) => write!(f, "the body is {error}"),
            DispatchError::Type(field) => {
                let (path, kind) = field.describe();
                write!(f, "{path} must be {kind}")
            }
            DispatchError::Missing(field) => write!(f, "{} is missing", field.describe().0),
            DispatchError::Repeated(field) => write!(f, "{} occurs twice", field.describe().0),
            DispatchError::Surrogate(field) => {
                write!(f, "{} contains half of a surrogate pair", field.describe().0)
            }
            DispatchError::Range(field) => write!(f, "{} is out of range", field.describe().0),
        }
    }
}

impl std::error::Error for DispatchError {}

impl From<JsonError> for DispatchError {
    #[inline(always)]
    fn from(error: JsonError) -> DispatchError {
        DispatchError::Json(error)
    }
}

impl From<DispatchError> for Rejection {
    #[cold]
    fn from(error: DispatchError) -> Rejection {
        Rejection::with_text(400, error.to_string())
    }
}
