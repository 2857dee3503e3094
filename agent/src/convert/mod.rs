//! Where the protobuf messages meet the model, for the store's values and for the API.
