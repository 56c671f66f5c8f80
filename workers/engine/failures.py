"""What the errors of torch, and of the libraries under it, mean."""

import torch

#: What torch and the libraries under it say when memory ran out, in errors that are none of `OutOfMemoryError`.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc")


def out_of_memory(exc: Exception) -> bool:
    """Whether an error of torch says that memory ran out. On a CPU that is a RuntimeError like any other."""
    return isinstance(exc, torch.OutOfMemoryError | MemoryError) or (
        isinstance(exc, RuntimeError) and any(words in str(exc) for words in _NO_MEMORY))


def device_lost(exc: Exception) -> bool:
    """Whether the device cannot be used by this process any more."""
    return not out_of_memory(exc) and (isinstance(exc, torch.AcceleratorError)
                                       or (isinstance(exc, RuntimeError) and "CUDA error" in str(exc)))
