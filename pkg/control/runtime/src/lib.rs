//! Informers, the dedup and delay queue, the reconcile driver and the event recorder.
