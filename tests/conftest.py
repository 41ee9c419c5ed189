"""What holds for all tests."""

import os

# Before gRPC is loaded: tests start programs, and gRPC would prepare for a fork that goes on in Python; its threads
# then meddle in the children of those that become somebody else.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
