"""Our address space and sessions within the library's server: nodes made on demand, values fetched before they are
read, writes carried to the host or refused.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from asyncua import ua
from asyncua.common.node import Node
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import (
    AddressSpace,
    AttributeService,
    MethodService,
    NodeData,
    NodeManagementService,
    ViewService,
)
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession
from asyncua.server.subscription_service import SubscriptionService
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from vplc.scan.errors import NotRunning, Refused
from vplc.scan.values import Json
from vplc.servers.configuration import Grants
from vplc.servers.model import Enumeration, Subrange
from vplc.servers.opcua.companion import standard
from vplc.servers.opcua.node import name_targets
from vplc.servers.opcua.source import Source
from vplc.servers.opcua.tree import Tree
from vplc.servers.writer import Writer

log = logging.getLogger(__name__)
A, S = AttributeIds, StatusCodes
Callback = Callable[..., Any]


class Nodes(dict[ua.NodeId, NodeData]):
    """The library's nodes, and behind them those of the program."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: Tree | None = None
        self.own = -1

    def __missing__(self, key: ua.NodeId) -> NodeData:
        if key.NamespaceIndex == self.own and self.tree is not None and isinstance(key.Identifier, str):
            found = self.tree.node(key.Identifier)
            if found is not None:
                name_targets(found, self._target)
                return found
        raise KeyError(key)

    def _target(self, key: ua.NodeId) -> NodeData | None:
        """Without completing its own references: types lead to types."""
        if key.NamespaceIndex == self.own and self.tree is not None:
            return self.tree.node(str(key.Identifier))
        return dict.get(self, key)

    def get(self, key: ua.NodeId, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or (isinstance(key, ua.NodeId) and self.get(key) is not None)


class Space(AddressSpace):
    """Knows which of the program's values clients monitor."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = Nodes()
        self._nodes = self.nodes
        self.watched: dict[str, dict[int, Callback]] = {}
        self._places: dict[int, str] = {}

    def add_datachange_callback(self, nodeid: ua.NodeId, attr: AttributeIds, callback: Callback) -> tuple[Any, int]:
        if nodeid.NamespaceIndex != self.nodes.own:
            found: tuple[Any, int] = super().add_datachange_callback(nodeid, attr, callback)
            return found
        node = self.nodes.get(nodeid)
        if node is None:
            return ua.StatusCode(ua.UInt32(S.BadNodeIdUnknown)), 0
        if attr not in node.attributes:
            return ua.StatusCode(ua.UInt32(S.BadAttributeIdInvalid)), 0
        self._datachange_callback_counter += 1
        handle = int(self._datachange_callback_counter)
        if attr == A.Value and node.attributes[attr].value_callback is not None:
            self._places[handle] = str(nodeid.Identifier)
            self.watched.setdefault(str(nodeid.Identifier), {})[handle] = callback
        return ua.StatusCode(), handle  # anything else of the program's nodes never changes

    def delete_datachange_callback(self, handle: int) -> None:
        place = self._places.pop(handle, None)
        if place is None:
            super().delete_datachange_callback(handle)
            return
        rest = self.watched.get(place, {})
        rest.pop(handle, None)
        if not rest:
            self.watched.pop(place, None)

    async def publish(self, path: str, value: ua.DataValue) -> None:
        for handle, callback in list(self.watched.get(path, {}).items()):
            try:
                await callback(handle, value)
            except KeyError:  # the item was deleted meanwhile
                continue

    def read_attribute_value(self, nodeid: ua.NodeId, attr: AttributeIds) -> ua.DataValue:
        tree = self.nodes.tree
        if nodeid.NamespaceIndex == self.nodes.own and attr == A.Value and tree is not None:
            found = tree.value(str(nodeid.Identifier))
            if found is not None:
                return found  # without making the node
        return super().read_attribute_value(nodeid, attr)


class View(ViewService):
    """Browsing as the library does it, but looking things up once per node instead of once per reference."""

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self._space = space
        self._kinds: dict[ua.NodeId, frozenset[ua.NodeId]] = {}

    def _browse(self, desc: ua.BrowseDescription) -> ua.BrowseResult:
        node = self._space.nodes.get(desc.NodeId)
        if node is None:
            return ua.BrowseResult(ua.StatusCode(ua.UInt32(S.BadNodeIdUnknown)))
        kinds = None if desc.ReferenceTypeId.is_null() else self._below(desc.ReferenceTypeId, desc.IncludeSubtypes)
        rows = node.references
        if desc.BrowseDirection != ua.BrowseDirection.Both:
            forward = desc.BrowseDirection == ua.BrowseDirection.Forward
            rows = [r for r in rows if r.IsForward == forward]
        if kinds is not None:
            rows = [r for r in rows if r.ReferenceTypeId in kinds]
        if desc.NodeClassMask:
            rows = [r for r in rows if desc.NodeClassMask & r.NodeClass]
        result = ua.BrowseResult()
        result.References = list(rows)
        return result

    def _below(self, kind: ua.NodeId, subtypes: bool) -> frozenset[ua.NodeId]:
        """A reference type with all below it; they do not change while the server runs."""
        if not subtypes:
            return frozenset((kind,))
        known = self._kinds.get(kind)
        if known is None:
            known = frozenset((kind, *self._get_sub_ref(kind)))
            if len(self._kinds) < 1000:  # clients choose what they ask for
                self._kinds[kind] = known
        return known


class Session(InternalSession):
    """A client's session. Roles: everybody reads; operators write what is granted."""

    max_connections = 1000

    @property
    def server(self) -> ProgramServer:
        assert isinstance(self.iserver, ProgramServer)
        return self.iserver

    def activate_session(self, params: Any, peer_certificate: bytes | None) -> Any:
        token = params.UserIdentityToken
        if isinstance(token, ua.UserNameIdentityToken) and peer_certificate is None and not token.EncryptionAlgorithm:
            raise ServiceError(S.BadIdentityTokenRejected)  # a password that anybody could have read
        # The certificate of the channel says which application this is, not who uses it.
        return super().activate_session(params, None)

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        own = self.server.space.nodes.own
        rows = params.NodesToRead
        paths = [
            str(r.NodeId.Identifier) for r in rows if r.NodeId.NamespaceIndex == own and r.AttributeId == A.Value
        ]  # fmt: skip
        if paths:
            await self.server.refresh(paths)
        results: list[ua.DataValue] = await super().read(params)
        for i, row in enumerate(rows):
            if row.NodeId.NamespaceIndex != own:
                continue
            found = results[i].Value
            if row.AttributeId == A.UserAccessLevel and not self._operates() and found is not None:
                results[i] = ua.DataValue(ua.Variant(found.Value & 1, ua.VariantType.Byte))
            elif row.IndexRange and row.AttributeId == A.Value:
                results[i] = _within(results[i], row.IndexRange)
        return results

    async def create_monitored_items(self, params: Any) -> Any:
        own = self.server.space.nodes.own
        wanted = [r.ItemToMonitor for r in params.ItemsToCreate]
        paths = [str(r.NodeId.Identifier) for r in wanted if r.NodeId.NamespaceIndex == own]
        if paths:
            await self.server.refresh(paths)
        results = await super().create_monitored_items(params)
        for item, result in zip(params.ItemsToCreate, results, strict=True):
            if item.ItemToMonitor.NodeId.NamespaceIndex == own:
                asked = item.RequestedParameters.SamplingInterval
                result.RevisedSamplingInterval = max(asked, float(self.server.sampling_ms))
        return results

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        own = self.server.space.nodes.own
        rows = params.NodesToWrite
        mine = [i for i, r in enumerate(rows) if r.NodeId.NamespaceIndex == own]
        if not mine:
            found: list[ua.StatusCode] = await super().write(params)
            return found
        others = [r for i, r in enumerate(rows) if i not in set(mine)]
        rest = iter(await super().write(ua.WriteParameters(others))) if others else iter(())
        written = iter(await self.server.write([rows[i] for i in mine], self.user, self._operates()))
        return [next(written) if r.NodeId.NamespaceIndex == own else next(rest) for r in rows]

    def _operates(self) -> bool:
        return bool(getattr(self.user, "operates", False))


class ProgramServer(InternalServer):
    """The library's server with our space and sessions."""

    def __init__(self, user_manager: Any, grants: Grants, sampling_ms: int) -> None:
        super().__init__(user_manager=user_manager)
        self.allow_remote_admin = False
        self.space = self.aspace = Space()
        self.attribute_service = AttributeService(self.space)
        self.view_service = View(self.space)
        self.method_service = MethodService(self.space)
        self.node_mgt_service = NodeManagementService(self.space)
        self.subscription_service = SubscriptionService(self.space, iserver=self)
        admin = User(role=UserRole.Admin)
        self.isession = InternalSession(self, self.space, self.subscription_service, "Internal", user=admin)
        self.current_time_node = Node(self.isession, standard(ObjectIds.Server_ServerStatus_CurrentTime))
        self.server_status_node = Node(self.isession, standard(ObjectIds.Server_ServerStatus))
        self.sampling_ms = sampling_ms
        self._grants = grants
        self.source: Source | None = None
        self.writer: Writer | None = None

    def create_session(self, name: str, user: Any = None, external: bool = False) -> Session:
        user = user or User(role=UserRole.Anonymous)
        return Session(self, self.space, self.subscription_service, name, user=user, external=external)

    async def refresh(self, paths: list[str]) -> None:
        if self.source is not None:
            await self.source.refresh(paths)

    async def write(self, rows: list[ua.WriteValue], user: Any, operates: bool) -> list[ua.StatusCode]:
        """One status each; what is allowed is written together, between the same two scans."""
        codes = [S.Good] * len(rows)
        changes: dict[str, Json] = {}
        places: dict[str, int] = {}
        for i, row in enumerate(rows):
            try:
                path, value = self._change(row, operates)
                if path in changes:
                    raise _NotWrittenError(S.BadInvalidArgument, f"{path} is given twice")
                changes[path], places[path] = value, i
            except _NotWrittenError as error:
                log.info("%s: %s: %s", user, row.NodeId, error)
                codes[i] = error.code
        if changes and self.writer is not None:
            failed = await self._carry_out(changes, str(getattr(user, "name", None) or "anonymous"))
            for i in places.values():
                codes[i] = failed or S.Good
        return [ua.StatusCode(ua.UInt32(c)) for c in codes]

    async def _carry_out(self, changes: dict[str, Json], who: str) -> int:
        """0, or why nothing was written."""
        assert self.source is not None
        assert self.writer is not None
        await self.source.refresh(changes, max_age_ns=0)
        try:
            await self.writer.write(f"opcua user {who}", changes, self._before(changes))
        except Refused as error:
            log.warning("%s: %s", who, error)
            return int(S.BadNotWritable)
        except NotRunning as error:
            log.warning("%s: %s", who, error)
            return int(S.BadNoCommunication)
        await self.source.refresh(changes, max_age_ns=0)
        return 0

    def _before(self, changes: Mapping[str, Json]) -> dict[str, Json]:
        assert self.source is not None
        tree = self.space.nodes.tree
        out: dict[str, Json] = {}
        for path in changes:
            reading = self.source.reading(path)
            item = tree.model.item(path) if tree else None
            if tree is None or item is None or reading is None:
                continue
            found = tree.shapes.codec(item)
            if found is not None:
                raw = found.raw(reading.data)
                rows = [str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in raw]
                out[path] = rows if found.dims else rows[0]
        return out

    def _change(self, row: ua.WriteValue, operates: bool) -> tuple[str, Json]:
        """Path and value, checked as far as it can be here."""
        tree = self.space.nodes.tree
        item = tree.model.item(str(row.NodeId.Identifier)) if tree else None
        if tree is None or item is None or item.path != row.NodeId.Identifier:
            raise _NotWrittenError(S.BadNodeIdUnknown, "there is no such variable")
        if row.AttributeId != A.Value:
            raise _NotWrittenError(S.BadNotWritable, "only values are written")
        grant = self._grants.get(item.path.upper())
        found = tree.shapes.codec(item)
        if grant is None or found is None:
            raise _NotWrittenError(S.BadNotWritable, "not among the writable variables")
        if not operates:
            raise _NotWrittenError(S.BadUserAccessDenied, "only operators write")
        if row.IndexRange:
            raise _NotWrittenError(S.BadWriteNotSupported, "arrays are written whole")
        given = row.Value
        if given.StatusCode is not None and not given.StatusCode.is_good():
            raise _NotWrittenError(S.BadWriteNotSupported, "a status cannot be written")
        if given.Value is None or given.Value.VariantType != found.kind.variant:
            raise _NotWrittenError(S.BadTypeMismatch, f"{found.kind.variant.name} is needed")
        if bool(given.Value.is_array) != bool(found.dims):
            raise _NotWrittenError(S.BadTypeMismatch, "one value and an array are two things")
        try:
            value = found.json(given.Value.Value)
        except (ValueError, TypeError, OverflowError) as error:
            raise _NotWrittenError(S.BadTypeMismatch, str(error)) from error
        why = grant.refusal(value)
        _, definition = tree.shapes.element(item.type)
        if isinstance(definition, Enumeration):
            known = {v for _, v in definition.values}
            if any(v not in known for v in (value if isinstance(value, list) else [value])):
                why = f"{value} is no value of {definition.name}"
        if isinstance(definition, Subrange):
            rows = value if isinstance(value, list) else [value]
            if any(isinstance(v, int) and not definition.low <= v <= definition.high for v in rows):
                why = f"{value} is not from {definition.low} to {definition.high}"
        if why:
            raise _NotWrittenError(S.BadOutOfRange, why)
        return item.path, value


class _NotWrittenError(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def _within(value: ua.DataValue, text: str) -> ua.DataValue:
    """A part of an array of one dimension (OPC 10000-4, 7.27)."""
    if value.Value is None or value.StatusCode is None or value.StatusCode.is_bad():
        return value
    low, _, high = text.partition(":")
    found = value.Value
    fits = found.is_array and not (found.Dimensions and len(found.Dimensions) > 1) and low.isdigit()
    if not fits or (high and not high.isdigit()):
        return ua.DataValue(None, ua.StatusCode(ua.UInt32(S.BadIndexRangeInvalid)))
    part = found.Value[int(low) : int(high or low) + 1]
    if not part:
        return ua.DataValue(None, ua.StatusCode(ua.UInt32(S.BadIndexRangeNoData)))
    shown = ua.Variant(part, found.VariantType, is_array=True)
    return ua.DataValue(shown, value.StatusCode, value.SourceTimestamp, value.ServerTimestamp)
