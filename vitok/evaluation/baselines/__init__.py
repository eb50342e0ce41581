"""What a tokenizer is compared with: the autoencoders of Tables 2 and 3, and plain image codecs."""
