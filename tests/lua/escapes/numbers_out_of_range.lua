-- Numbers that overflow a C int, or that make a loop in C run for years.
function main(env, con)
    local unpack = unpack or table.unpack
    local numbers = { 0, 1, -1, 2 ^ 31 - 1, 2 ^ 31 - 2, 2 ^ 31, -2 ^ 31, -2 ^ 31 + 5, 2 ^ 53, -2 ^ 53, 1e300, -1e300, 0 / 0, 7999 }
    for _, first in ipairs(numbers) do
        pcall(debug.traceback, "x", first)
        pcall(debug.traceback, coroutine.create(print), "x", first)
        pcall(string.rep, "", first)
        pcall(string.rep, "", first, "")
        pcall(string.rep, "", tostring(first))
        for _, last in ipairs(numbers) do
            pcall(unpack, {}, first, last)
            pcall(unpack, { 1, 2, 3 }, tostring(first), last)
            pcall(string.byte, "abc", first, last)
            pcall(string.sub, "abc", first, last)
        end
        pcall(unpack, {}, first)
    end
    local a, b = unpack({ 1, 2, 3 }, 2)
    local works = a == 2 and b == 3 and select("#", unpack({}, 1, 3)) == 3 and ("ab"):rep(3) == "ababab" and (""):rep(5) == ""
        and debug.traceback("here"):find("here\nstack traceback:\n", 1, true) and debug.traceback():find("stack", 1, true)
        and debug.traceback({}) ~= nil and debug.traceback(coroutine.create(print), "there"):find("there", 1, true)
    con:puts(works and "held" or "broken")
end
