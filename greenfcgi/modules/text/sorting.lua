-- Sorts a list of texts. Lua's own sort cannot be interrupted, and what is sorted here is as long as a client or a script
-- makes it.
--
-- returns: sorted(list): the same list, or another one. Its runs are merged into ever longer ones

local _, server = ...

local count = server.count

return function(list)
    local length, n = 1, #list
    while length < n do
        local merged = {}
        for first = 1, n, 2 * length do
            local a, last = first, first + length
            if last > n + 1 then last = n + 1 end
            local b, ending = last, last + length
            if ending > n + 1 then ending = n + 1 end
            for place = first, ending - 1 do
                count(1)
                if a < last and (b >= ending or list[a] <= list[b]) then
                    merged[place], a = list[a], a + 1
                else
                    merged[place], b = list[b], b + 1
                end
            end
        end
        list, length = merged, 2 * length
    end
    return list
end
