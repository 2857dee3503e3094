//! Pools, subnets and the choice of addresses: pure.
