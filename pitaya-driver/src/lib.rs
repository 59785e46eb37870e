//! Pitaya's futures: one driver for every stream, generic over the runtime.
