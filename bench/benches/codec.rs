//! Decoding and encoding one message of each type.

#[path = "../src/codec/samples.rs"]
mod samples;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ofpacket::Message;

fn codec(criterion: &mut Criterion) {
    let samples = samples::samples().expect("messages that can be read");
    for verb in ["decode", "encode"] {
        let mut group = criterion.benchmark_group(verb);
        for sample in &samples {
            group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
            group.bench_function(sample.name, |bencher| match verb {
                "decode" => bencher.iter(|| Message::decode(black_box(&sample.bytes))),
                _ => bencher.iter(|| black_box(&sample.message).encode()),
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20);
    targets = codec
}
criterion_main!(benches);
