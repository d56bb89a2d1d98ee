//! Who may sign in. For a demonstration: a real shop keeps slow password hashes (Argon2id) and
//! limits attempts by account and address, which no session can do for it.

const ACCOUNTS: [(&str, &str); 2] = [("alice", "wonderland"), ("bob", "builder")];

/// The account's id, if the password is right.
pub(crate) fn authenticate(user: &str, password: &str) -> Option<&'static str> {
    let account = ACCOUNTS.iter().find(|(known, _)| *known == user);
    // An unknown name is compared all the same: the time must not tell which names exist.
    let right = account.map_or("nobody's password", |(_, right)| right);
    let matches = equal(password.as_bytes(), right.as_bytes());
    account.filter(|_| matches).map(|(known, _)| *known)
}

/// Compares in a time that tells nothing about where two texts of one length differ.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (one, other)| sum | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}
