//! What is a list of remotes reads the same once it is printed.

use ovsdb_rs::Remotes;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Remotes>() {
        Ok(remotes) => {
            assert!(!remotes.as_slice().is_empty());
            assert_eq!(remotes.to_string().parse::<Remotes>().as_ref(), Ok(&remotes));
        }
        Err(error) => assert!(!error.label().is_empty() && error.to_string().len() <= 200 + 10 * data.len()),
    }
}
