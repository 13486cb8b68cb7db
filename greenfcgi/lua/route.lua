-- Where a request goes: SCRIPT_FILENAME and CONTENT_LENGTH of a PARAMS stream, found by walking its pairs.
-- The same as records.routing in Python, at a third of its cost. Runs in a state of its own, without any script.
--
-- returns: the function of the stream that returns both (nil where there is none), or false when a pair is cut off

local byte, sub = string.byte, string.sub

return function(data)
    local at, last = 1, #data
    local filename, length
    while at <= last do
        local name_length, value_length = byte(data, at, at + 1)
        if not value_length then return false end
        at = at + 2
        if name_length > 127 or value_length > 127 then
            local a, b, c
            if name_length > 127 then
                a, b, c, value_length = byte(data, at - 1, at + 2)
                if not value_length then return false end
                name_length = (((name_length - 128) * 256 + a) * 256 + b) * 256 + c
                at = at + 3
            end
            if value_length > 127 then
                a, b, c = byte(data, at, at + 2)
                if not c then return false end
                value_length = (((value_length - 128) * 256 + a) * 256 + b) * 256 + c
                at = at + 3
            end
        end
        local value = at + name_length
        local after = value + value_length
        if name_length == 15 then
            if sub(data, at, value - 1) == "SCRIPT_FILENAME" then filename = sub(data, value, after - 1) end
        elseif name_length == 14 then
            if sub(data, at, value - 1) == "CONTENT_LENGTH" then length = sub(data, value, after - 1) end
        end
        at = after
    end
    if at ~= last + 1 then return false end
    return filename, length
end
