//! What the store says, in memory: networks, endpoints, members, nodes; pure, fed by the follower.
