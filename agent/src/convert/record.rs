//! The values of the store: each noun with the message that it is stored as.

use bytes::Bytes;
use ovnet_proto::v1;
use prost::Message;

use super::limits::MAX_RECORD;
use crate::model::{AddressOwner, Endpoint, Invalid, Member, Network, Node, Sandbox};

/// A noun that is kept in a store.
pub trait Record: Sized {
    /// The noun in errors: "network record".
    const WHAT: &'static str;
    /// The message that it is stored as.
    type Wire: Message + Default;

    /// The message.
    fn to_wire(&self) -> Self::Wire;

    /// The noun that a message carries.
    ///
    /// # Errors
    /// A field that is not what it should be.
    fn from_wire(wire: Self::Wire) -> Result<Self, Invalid>;

    /// The value as it goes into the store.
    fn to_bytes(&self) -> Bytes {
        encode(&self.to_wire())
    }

    /// The noun in a value from the store.
    ///
    /// # Errors
    /// More than [`MAX_RECORD`] bytes, not the message that it should be, or a field that is not what it should be.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::from_wire(message(Self::WHAT, bytes)?)
    }
}

macro_rules! record {
    ($($noun:ident: $what:literal),* $(,)?) => {$(
        impl Record for $noun {
            const WHAT: &'static str = $what;
            type Wire = v1::$noun;

            fn to_wire(&self) -> v1::$noun {
                self.into()
            }

            fn from_wire(wire: v1::$noun) -> Result<Self, Invalid> {
                wire.try_into()
            }
        }
    )*};
}

record! {
    Network: "network record",
    Endpoint: "endpoint record",
    Node: "node record",
    Member: "member record",
    AddressOwner: "address record",
    Sandbox: "sandbox record",
}

/// A message as bytes.
pub fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// The noun `T` that is stored as the message `M`, from bytes: `decode::<v1::Network, model::Network>(bytes)`.
///
/// # Errors
/// As [`Record::from_bytes`].
pub fn decode<M: Message + Default, T: TryFrom<M, Error = Invalid>>(bytes: &[u8]) -> Result<T, Invalid> {
    message::<M>("record", bytes)?.try_into()
}

fn message<M: Message + Default>(what: &'static str, bytes: &[u8]) -> Result<M, Invalid> {
    let quoted = || format!("{} bytes", bytes.len());
    if bytes.len() > MAX_RECORD {
        return Err(Invalid::new(what, quoted(), format!("at most {MAX_RECORD} bytes are allowed")));
    }
    M::decode(bytes).map_err(|error| Invalid::new(what, quoted(), error.to_string()))
}
