"""A client of the scorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from core.access import ANONYMOUS, Credentials
from core.errors import BadInputError
from core.rpc import RpcClient
from scoring.serving import scorer_pb2 as pb
from scoring.serving.scorer_pb2_grpc import PairScorerStub

__all__ = ["ScorerClient"]

_OVERHEAD = 24
"""The most bytes that a block takes in a message beside its codes."""


class ScorerClient(RpcClient):
    """Calls `PairScorer`. All methods raise errors of `core.errors`."""

    def __init__(
        self, address: str, deadline_s: float, max_message_bytes: int, credentials: Credentials = ANONYMOUS
    ) -> None:
        """Opens the channel; the server need not be up."""
        super().__init__(address, deadline_s, max_message_bytes, credentials)
        self._stub = PairScorerStub(self.channel)
        self._max_request_bytes = max_message_bytes - 1024

    def score(self, blocks: Sequence[pb.PairBlock], model_version: str = "") -> pb.ScoreResponse:
        """Scores each block: one code against others. One version of the model scores all of them.

        Blocks that do not fit into one message are sent in several; each message has the whole deadline.

        Args:
            blocks: Each has a query code and the codes to compare it with, which may be none.
            model_version: The version to use; empty: the served one. The answer names it.

        Raises:
            RefusedError: A code has the wrong length, there are too many pairs, or no such version.
            UnavailableError: The server is down or too slow, or its queue is full: wait and call again.
            FaultError: The server failed on this call.
            BadInputError: A single block is longer than a message may be.
        """
        response = pb.ScoreResponse()
        for part in self._parts(blocks):
            request = pb.ScoreRequest(model_version=response.model_version or model_version, blocks=part)
            answer: pb.ScoreResponse = self._call(self._stub.Score, request)
            response.MergeFrom(answer)
        return response

    def describe(self) -> pb.DescribeResponse:
        """The served model: version, codes, thresholds.

        Raises:
            UnavailableError: The server is down or too slow.
        """
        response: pb.DescribeResponse = self._call(self._stub.Describe, pb.DescribeRequest())
        return response

    def _parts(self, blocks: Sequence[pb.PairBlock]) -> Iterator[list[pb.PairBlock]]:
        part: list[pb.PairBlock] = []
        size = 0
        for index, block in enumerate(blocks):
            block_bytes = len(block.query_code) + len(block.candidate_codes) + _OVERHEAD
            if block_bytes > self._max_request_bytes:
                raise BadInputError(f"block {index} has {block_bytes} bytes, a message holds {self._max_request_bytes}")
            if part and size + block_bytes > self._max_request_bytes:
                yield part
                part, size = [], 0
            part.append(block)
            size += block_bytes
        if part or not blocks:
            yield part
