"""Settings that every test shares."""

import signal

import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in its background so
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The models of the tests are so small that a second thread costs more than it gives, and on a busy machine far more.
torch.set_num_threads(1)
