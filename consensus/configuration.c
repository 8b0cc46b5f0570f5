/* SPDX-License-Identifier: MIT */
/*
 * Configurations as values: order, validity, and their form in the log:
 * [1, joint, [[id, incarnation, role, outgoing voter, name, address], ...]].
 */
#include <lockstep/configuration.h>

enum { FORM = 1, HEAD_VALUES = 4, MEMBER_VALUES = 7 };
#define VALUES_MAX (HEAD_VALUES + LS_MEMBERS_MAX * MEMBER_VALUES)

/* Length of a terminated text of at most `capacity` bytes with its terminator, or capacity. */
static size_t text_length(const char *text, size_t capacity)
{
    size_t length = 0;
    while (length < capacity && text[length] != '\0') {
        length++;
    }
    return length;
}

static bool name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' || byte == '-';
}

static const char *member_invalid(const struct ls_member *member)
{
    size_t name = text_length(member->name, LS_NAME_BYTES);
    if (name == LS_NAME_BYTES ||
        text_length(member->address, LS_ADDRESS_BYTES) == LS_ADDRESS_BYTES) {
        return "a member's name or address is not terminated";
    }
    if (name == 0) {
        return "a member has no name";
    }
    for (size_t i = 0; i < name; i++) {
        if (!name_byte(member->name[i])) {
            return "a member's name has a byte outside [A-Za-z0-9._-]";
        }
    }
    switch (member->role) {
    case LS_MEMBER_VOTER:
    case LS_MEMBER_LEARNER:
    case LS_MEMBER_OBSERVER:
    case LS_MEMBER_WITNESS:
        break;
    default:
        return "a member has an unknown role";
    }
    return ls_peer_id_is_zero(&member->id) ? "a member's id is zero" : NULL;
}

static const char *voters_invalid(const struct ls_configuration *configuration)
{
    uint32_t incoming = 0;
    uint32_t outgoing = 0;
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct ls_member *member = &configuration->members[i];
        incoming += member->role == LS_MEMBER_VOTER || member->role == LS_MEMBER_WITNESS;
        outgoing += member->outgoing_voter;
    }
    if (incoming == 0) {
        return "a configuration needs a voter";
    }
    if (incoming > LS_VOTERS_MAX || outgoing > LS_VOTERS_MAX) {
        return "a configuration has too many voters";
    }
    if (configuration->joint != (outgoing > 0)) {
        return "outgoing voters are for a joint configuration, which needs one";
    }
    return NULL;
}

const char *ls_configuration_invalid(const struct ls_configuration *configuration)
{
    if (configuration->count == 0 || configuration->count > LS_MEMBERS_MAX) {
        return "a configuration has 1 to 31 members";
    }
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct ls_member *member = &configuration->members[i];
        const char *reason = member_invalid(member);
        if (reason != NULL) {
            return reason;
        }
        if (i > 0 && memcmp(member[-1].id.bytes, member->id.bytes, sizeof member->id.bytes) >= 0) {
            return "member ids are not ascending";
        }
        for (uint32_t j = 0; j < i; j++) {
            size_t bytes = strlen(member->name) + 1;
            if (memcmp(configuration->members[j].name, member->name, bytes) == 0) {
                return "two members have one name";
            }
        }
    }
    return voters_invalid(configuration);
}

const struct ls_member *ls_configuration_find(const struct ls_configuration *configuration,
                                              const struct ls_peer_id *id)
{
    /* few members, whose ids differ in their first bytes: no search is faster */
    for (uint32_t i = 0; i < configuration->count; i++) {
        if (ls_peer_id_equal(&configuration->members[i].id, id)) {
            return &configuration->members[i];
        }
    }
    return NULL;
}

void ls_configuration_sort(struct ls_configuration *configuration)
{
    for (uint32_t i = 1; i < configuration->count; i++) {
        struct ls_member moving = configuration->members[i];
        uint32_t at = i;
        while (at > 0 && memcmp(configuration->members[at - 1].id.bytes, moving.id.bytes,
                                sizeof moving.id.bytes) > 0) {
            configuration->members[at] = configuration->members[at - 1];
            at--;
        }
        configuration->members[at] = moving;
    }
}

static struct ls_value number(uint64_t value)
{
    return (struct ls_value){.kind = LS_VALUE_UINT, .as.number = value};
}

static struct ls_value array(uint32_t count)
{
    return (struct ls_value){.kind = LS_VALUE_ARRAY, .as.count = count};
}

static struct ls_value bytes_value(const void *data, size_t bytes)
{
    return (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = {data, bytes}};
}

enum ls_status ls_configuration_encode(const struct ls_codec *codec,
                                       const struct ls_configuration *configuration, void *out,
                                       size_t capacity, size_t *written)
{
    struct ls_value values[VALUES_MAX];
    size_t count = 0;
    LS_ASSERT(configuration->count <= LS_MEMBERS_MAX);
    values[count++] = array(3);
    values[count++] = number(FORM);
    values[count++] = number(configuration->joint);
    values[count++] = array(configuration->count);
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct ls_member *member = &configuration->members[i];
        values[count++] = array(MEMBER_VALUES - 1);
        values[count++] = bytes_value(member->id.bytes, sizeof member->id.bytes);
        values[count++] = bytes_value(member->incarnation.bytes, sizeof member->incarnation.bytes);
        values[count++] = number((uint64_t)member->role);
        values[count++] = number(member->outgoing_voter);
        values[count++] = bytes_value(member->name, text_length(member->name, LS_NAME_BYTES));
        values[count++] =
            bytes_value(member->address, text_length(member->address, LS_ADDRESS_BYTES));
    }
    return codec->encode(codec->self, values, count, out, capacity, written);
}

static bool take_bytes(const struct ls_value *value, void *out, size_t bytes)
{
    if (value->kind != LS_VALUE_BYTES || value->as.bytes.bytes != bytes) {
        return false;
    }
    memcpy(out, value->as.bytes.data, bytes);
    return true;
}

static bool take_text(const struct ls_value *value, char *out, size_t capacity)
{
    if (value->kind != LS_VALUE_BYTES || value->as.bytes.bytes >= capacity) {
        return false;
    }
    if (value->as.bytes.bytes > 0) {
        memcpy(out, value->as.bytes.data, value->as.bytes.bytes);
    }
    out[value->as.bytes.bytes] = '\0';
    return text_length(out, capacity) == value->as.bytes.bytes;
}

static bool is_number(const struct ls_value *value, uint64_t most)
{
    return value->kind == LS_VALUE_UINT && value->as.number <= most;
}

static bool take_member(const struct ls_value *values, struct ls_member *member)
{
    if (values[0].kind != LS_VALUE_ARRAY || values[0].as.count != MEMBER_VALUES - 1 ||
        !is_number(&values[3], LS_MEMBER_WITNESS) || !is_number(&values[4], 1)) {
        return false;
    }
    member->role = (enum ls_role_in_configuration)values[3].as.number;
    member->outgoing_voter = values[4].as.number == 1;
    return take_bytes(&values[1], member->id.bytes, sizeof member->id.bytes) &&
           take_bytes(&values[2], member->incarnation.bytes, sizeof member->incarnation.bytes) &&
           take_text(&values[5], member->name, sizeof member->name) &&
           take_text(&values[6], member->address, sizeof member->address);
}

enum ls_status ls_configuration_decode(const struct ls_codec *codec, struct ls_span bytes,
                                       struct ls_configuration *out)
{
    struct ls_value values[VALUES_MAX];
    size_t count = 0;
    enum ls_status status = codec->decode(codec->self, bytes, values, VALUES_MAX, &count);
    if (status != LS_OK) {
        return LS_ERR_PROTOCOL;
    }
    if (count < HEAD_VALUES || values[0].kind != LS_VALUE_ARRAY || values[0].as.count != 3 ||
        !is_number(&values[1], FORM) || values[1].as.number != FORM || !is_number(&values[2], 1) ||
        values[3].kind != LS_VALUE_ARRAY || values[3].as.count > LS_MEMBERS_MAX ||
        count != HEAD_VALUES + (size_t)values[3].as.count * MEMBER_VALUES) {
        return LS_ERR_PROTOCOL;
    }
    memset(out, 0, sizeof *out);
    out->joint = values[2].as.number == 1;
    out->count = values[3].as.count;
    for (uint32_t i = 0; i < out->count; i++) {
        if (!take_member(&values[HEAD_VALUES + i * MEMBER_VALUES], &out->members[i])) {
            return LS_ERR_PROTOCOL;
        }
    }
    return ls_configuration_invalid(out) == NULL ? LS_OK : LS_ERR_PROTOCOL;
}
