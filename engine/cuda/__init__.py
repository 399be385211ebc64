"""U on a CUDA device: kernels of our own over the paged KV pool, and graphs for decoding.

Nothing here is imported unless a model is loaded to a GPU, and nothing needs more than torch;
Triton and flashinfer are used where they can be imported (`engine.cuda.backend`).
"""
