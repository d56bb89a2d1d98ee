//! What a token is bound to: application, transport, cookie name.

use crate::error::Error;
use crate::key::KeyId;

const LABEL: &[u8] = b"sealed-session v1";
/// The most bytes a realm or a cookie name may have.
pub(crate) const MAX_NAME: usize = 128;
const KEY_ID_AT: usize = LABEL.len() + 1;
const LONGEST_TRANSPORT: usize = 6;
const MAX: usize = KEY_ID_AT + 4 + 3 * 2 + MAX_NAME + LONGEST_TRANSPORT + MAX_NAME;

/// The associated data of all tokens of one realm, transport and name, but for the key id.
#[derive(Clone)]
pub(crate) struct Context {
    template: AssociatedData,
}

impl Context {
    /// The context of cookies called `name`.
    pub(crate) fn cookie(realm: &str, name: &str) -> Result<Self, Error> {
        Self::new(realm, "cookie", name)
    }

    /// The context of tokens that travel without a cookie.
    pub(crate) fn bearer(realm: &str) -> Result<Self, Error> {
        Self::new(realm, "bearer", "")
    }

    fn new(realm: &str, transport: &str, name: &str) -> Result<Self, Error> {
        if realm.is_empty() || realm.len() > MAX_NAME {
            return Err(Error::config("realm: must have 1 to 128 bytes"));
        }
        let mut template = AssociatedData { bytes: [0; MAX], len: 0 };
        template.push(LABEL);
        template.push(&[super::VERSION, 0, 0, 0, 0]);
        for part in [realm, transport, name] {
            let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
            template.push(&length.to_be_bytes());
            template.push(part.as_bytes());
        }
        Ok(Self { template })
    }

    /// The associated data of a token sealed under the key `id`.
    pub(crate) fn associated_data(&self, id: KeyId) -> AssociatedData {
        let mut data = self.template;
        for (to, from) in data.bytes.iter_mut().skip(KEY_ID_AT).zip(id.as_bytes()) {
            *to = *from;
        }
        data
    }
}

#[derive(Clone, Copy)]
pub(crate) struct AssociatedData {
    bytes: [u8; MAX],
    len: usize,
}

impl AssociatedData {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, part: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(part) {
            *to = *from;
        }
        self.len = self.len.saturating_add(part.len()).min(MAX);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts that could be confused where lengths were left out.
    fn text() -> impl Strategy<Value = String> {
        "[ab\u{0}\u{1}\u{6}]{0,4}|cookie|bearer"
    }

    proptest! {
        #[test]
        fn two_different_contexts_have_different_associated_data(
            one in (text(), text(), text(), any::<[u8; 4]>()),
            other in (text(), text(), text(), any::<[u8; 4]>()),
        ) {
            let data = |(realm, transport, name, id): &(String, String, String, [u8; 4])| {
                let realm = format!("r{realm}");
                let context = Context::new(&realm, transport, name).unwrap();
                context.associated_data(KeyId::from_bytes(*id)).as_bytes().to_vec()
            };

            prop_assert_eq!(data(&one) == data(&other), one == other);
        }
    }

    #[test]
    fn the_longest_realm_and_name_fit() {
        let longest = "x".repeat(MAX_NAME);
        let context = Context::new(&longest, "cookie", &longest).unwrap();

        assert_eq!(context.associated_data(KeyId::from_bytes([0; 4])).as_bytes().len(), MAX);
        assert!(Context::new(&format!("{longest}x"), "cookie", "").is_err());
        assert!(Context::new("", "cookie", "").is_err());
    }
}
