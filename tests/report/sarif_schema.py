"""The parts of SARIF 2.1.0 (OASIS standard, section 3) that are used, as a JSON Schema.

Closed objects: a property that the standard does not name there, or that nobody looked at here, is
an error. Levels, URIs and required properties are those of the standard.
"""

from __future__ import annotations

from typing import Any


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
BAG = {"type": "object"}  # a property bag takes anything (3.8)
# 3.11.5, 3.11.6: in a message, braces that are no placeholder are doubled, brackets escaped.
MESSAGE = closed(
    ["text"],
    text={
        "type": "string",
        "pattern": r"^([^{}\[\]]|\{\{|\}\}|\\\[|\\\])+$",
    },
    markdown=TEXT,
)
ARTIFACT = closed(  # 3.4: a relative URI has a base, an absolute one a scheme
    ["uri"],
    uri={"type": "string", "pattern": r"^([A-Za-z0-9._~%!$&'()*+,;=@-]+(/|$)|file:///)"},
    uriBaseId={"const": "SRCROOT"},
)
LOCATION = closed(
    [],
    physicalLocation=closed(
        ["artifactLocation"],
        artifactLocation=ARTIFACT,
        region=closed(["startLine"], startLine={"type": "integer", "minimum": 1}),
    ),
    logicalLocations={
        "type": "array",
        "items": closed(["fullyQualifiedName"], fullyQualifiedName=TEXT, kind=TEXT),
    },
)
RESULT = closed(
    ["message", "ruleId", "ruleIndex", "level", "locations", "partialFingerprints"],
    ruleId={"type": "string", "pattern": "^[A-Z]{2,4}[0-9]{3}$"},
    ruleIndex={"type": "integer", "minimum": 0},
    level={"enum": ["none", "note", "warning", "error"]},
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
    properties=BAG,
)
RULE = closed(
    ["id"],
    id=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=MESSAGE,
    properties=BAG,
)
RUN = closed(
    ["tool"],
    # RFC 5646, in the narrower form that the standard's own schema asks for
    language={"type": "string", "pattern": "^[a-z]{2}(-[A-Z]{2})?$"},
    tool=closed(
        ["driver"],
        driver=closed(
            ["name"],
            name=TEXT,
            version=TEXT,
            rules={"type": "array", "items": RULE, "uniqueItems": True},
        ),
    ),
    invocations={
        "type": "array",
        "items": closed(
            ["executionSuccessful"],
            executionSuccessful={"type": "boolean"},
            exitCode={"type": "integer"},
        ),
    },
    originalUriBaseIds={
        "type": "object",
        "additionalProperties": closed(
            ["uri"], uri={"type": "string", "pattern": "^file:///(.*/)?$"}
        ),
    },
    results={"type": "array", "items": RESULT},
    properties=BAG,
)
SARIF = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **closed(
        ["version", "runs"],
        **{"$schema": TEXT, "version": {"const": "2.1.0"}, "runs": {"type": "array", "items": RUN}},
    ),
}
