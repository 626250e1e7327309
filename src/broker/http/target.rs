//! Request targets (RFC 9112 section 3.2) and the authority in them and in Host.

use super::rejection::Rejection;

/// A request target, reduced to what routing needs.
pub(super) struct Target<'b> {
    /// The path, or `*`.
    pub(super) path: &'b str,
    /// The authority of an absolute-form target.
    pub(super) authority: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// Takes origin-form, absolute-form (`http`, `https`) and, for OPTIONS alone, asterisk-form.
    /// The query is cut off; percent-encodings stay as they are.
    #[inline]
    pub(super) fn parse(text: &'b str, is_options: bool) -> Result<Self, Rejection> {
        if text.starts_with('/') {
            return Ok(Target { path: path_of(text)?, authority: None });
        }
        if text == "*" && is_options {
            return Ok(Target { path: "*", authority: None });
        }
        Target::absolute(text, is_options)
    }

    /// RFC 9112 section 3.2.2, RFC 9110 section 4.2.
    fn absolute(text: &'b str, is_options: bool) -> Result<Self, Rejection> {
        const MALFORMED: Rejection = Rejection::bad("the request target must be a path or an http URI");
        let (scheme, rest) = text.split_once("://").ok_or(MALFORMED)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(MALFORMED);
        }
        let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_len);
        if authority.is_empty() || !is_authority(authority.as_bytes()) {
            return Err(Rejection::bad("the request target's host is missing or malformed"));
        }
        let path = match path {
            "" if is_options => "*",
            _ => path_of(path)?,
        };
        Ok(Target { path: if path.is_empty() { "/" } else { path }, authority: Some(authority) })
    }
}

/// Whether a Host field's value is `uri-host [":" port]` (RFC 9110 section 7.2), or empty.
#[inline]
pub(super) fn is_authority(text: &[u8]) -> bool {
    // Nearly every Host is a name or an IPv4 address.
    let end = text.iter().position(|&byte| CLASS[byte as usize] != REG_NAME);
    match end.map_or((text, &[][..]), |end| text.split_at(end)) {
        (_, []) => true,
        ([_, ..], [b':', digits @ ..]) => digits.iter().all(u8::is_ascii_digit),
        _ => is_unusual_authority(text),
    }
}

#[cold]
fn is_unusual_authority(text: &[u8]) -> bool {
    let port = match text {
        [b'[', literal @ ..] => {
            let Some(end) = memchr::memchr(b']', literal) else {
                return false;
            };
            let (address, port) = (&literal[..end], &literal[end + 1..]);
            let plausible = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.');
            if address.is_empty() || !address.iter().all(plausible) {
                return false;
            }
            port
        }
        _ => {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            let (name, port) = text.split_at(end);
            if classes_of(name) & !REG_NAME != 0 || (name.is_empty() && !port.is_empty()) {
                return false;
            }
            port
        }
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Cuts off the query. Path and query may contain only what RFC 3986 allows: no fragment, space or bracket.
#[inline]
fn path_of(text: &str) -> Result<&str, Rejection> {
    let seen = classes_of(text.as_bytes());
    if seen & !(REG_NAME | PATH | QUERY) != 0 {
        return Err(Rejection::bad("the request target contains a character that no URI path may contain"));
    }
    if seen & QUERY == 0 {
        return Ok(text);
    }
    Ok(text.split_once('?').map_or(text, |(path, _)| path))
}

/// The union of the classes of all bytes. A `%` with two hex digits is allowed everywhere, any other `%` nowhere.
#[inline]
fn classes_of(text: &[u8]) -> u8 {
    let seen = text.iter().fold(0, |seen, &byte| seen | CLASS[byte as usize]);
    if seen & ENCODED != 0 && !is_well_encoded(text) { OTHER } else { seen & !ENCODED }
}

#[cold]
fn is_well_encoded(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).all(|at| {
        let hex = text.get(at + 1..at + 3);
        hex.is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Unreserved and sub-delims.
const REG_NAME: u8 = 1;
/// What a path and a query allow in addition.
const PATH: u8 = 2;
/// `?`
const QUERY: u8 = 4;
/// `%`
const ENCODED: u8 = 8;
/// None of these.
const OTHER: u8 = 16;

static CLASS: [u8; 256] = {
    let mut table = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => REG_NAME,
            b'-' | b'.' | b'_' | b'~' => REG_NAME,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => REG_NAME,
            b':' | b'@' | b'/' => PATH,
            b'?' => QUERY,
            b'%' => ENCODED,
            _ => OTHER,
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Option<&str> {
        Target::parse(text, false).ok().map(|target| target.path)
    }

    #[test]
    fn reduces_targets_to_paths() {
        assert_eq!(path("/wait"), Some("/wait"));
        assert_eq!(path("/wait?a=/b?c"), Some("/wait"));
        assert_eq!(path("/?"), Some("/"));
        assert_eq!(path("//connect"), Some("//connect"));
        // Percent-encodings are compared literally.
        assert_eq!(path("/%63onnect"), Some("/%63onnect"));
        assert_eq!(path("http://broker/connect?x"), Some("/connect"));
        assert_eq!(path("HTTPS://broker:8040/connect"), Some("/connect"));
        assert_eq!(path("http://broker"), Some("/"));
        assert_eq!(path("http://broker?x=/y"), Some("/"));
        assert_eq!(path("http://[::1]:80/connect"), Some("/connect"));
    }

    #[test]
    fn refuses_malformed_targets() {
        for text in [
            "",
            "*",
            "connect",
            "broker:80",
            "ftp://broker/connect",
            "http:/connect",
            "http:///connect",
            "http://user@broker/connect",
            "http://bro:ker/connect",
            "http://:80/connect",
            "/connect#part",
            "/conn ect",
            "/conn[ect]",
            "/conn\"ect",
            "/conn<ect",
            "/conn{ect",
            "/conn|ect",
            "/conn\\ect",
            "/conn^ect",
            "/conn`ect",
            "/connéct",
            "/connect\x7f",
            "/%",
            "/%4",
            "/%zz",
            "/connect?%g0",
        ] {
            assert!(path(text).is_none(), "{text}");
        }
    }

    #[test]
    fn asterisk_is_for_options() {
        assert!(matches!(Target::parse("*", true), Ok(Target { path: "*", .. })));
        // RFC 9112 section 3.2.4: what the last proxy would have sent.
        assert!(matches!(Target::parse("http://a", true), Ok(Target { path: "*", .. })));
        assert!(matches!(Target::parse("http://a?", true), Ok(Target { path: "/", .. })));
    }

    #[test]
    fn checks_authorities() {
        for good in [
            "",
            "broker",
            "broker:",
            "broker:8040",
            "10.0.0.1:80",
            "a-b_c.d~e",
            "%41",
            "[::1]",
            "[::1]:80",
            "[fe80::1.2.3.4]:",
            "a,b",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            ":80", "a:b", "a:80:80", "a b", "a/b", "a@b", "a?b", "[]", "[::1", "::1", "[::1]80", "[::g z]",
            "a%4", "a\"", "http://a", "a:+80", "é",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        /// The fast path agrees with the whole grammar.
        #[test]
        fn the_fast_path_agrees_with_the_grammar(text in "[a0.:%\\[\\]/ @é-]{0,10}|[a-z.]{0,9}(:[0-9a]{0,5})?") {
            prop_assert_eq!(is_authority(text.as_bytes()), is_unusual_authority(text.as_bytes()));
        }
    }
}
