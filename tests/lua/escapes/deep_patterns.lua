-- Patterns for which the C functions call themselves once for each item.
function main(env, con)
    local text = ("a"):rep(300000)
    for _, pattern in ipairs { ("a?"):rep(300000), ("a?"):rep(4096) .. "b", ("a-"):rep(300000), ("(a"):rep(300000), ("()"):rep(300000) } do
        pcall(string.find, text, pattern)
        pcall(string.match, text, pattern)
        pcall(string.gsub, text, pattern, "", 1)
        pcall(function() return string.gmatch(text, pattern)() end)
    end
    local works = text:find(text, 1, true) == 1 and ("x=1"):match("(%w+)=(%w+)") == "x" and ("aXb"):gsub("%u", "-") == "a-b"
        and ("a.b"):find(".", 1, true) == 2 and ("aa"):find("a", 2) == 2
    con:puts(works and "held" or "broken")
end
