"""What methods and encoders are built of: heads, transformers, teachers, queues, quantizers."""
