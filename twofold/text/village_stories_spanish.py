# ruff: noqa: E501 -- a sentence is kept on one line
"""The plots of the village's stories in Spanish, the same as in `village_stories_english`."""

from __future__ import annotations

TIMES = (
    "Una mañana", "Una tarde", "Un día", "Un lunes", "Un martes", "Un jueves", "Un día de primavera",
    "Un día de verano", "Un día de otoño", "Un día de invierno", "La semana pasada", "El mes pasado", "Hace unos años",
)  # fmt: skip
WEATHERS = ("llovía", "hacía mucho viento", "hacía frío", "había niebla", "nevaba")
PLACES = (
    "detrás de la iglesia", "debajo del puente viejo", "junto al pozo", "cerca de la escuela", "en el parque",
    "en la colina", "en el mercado", "a la orilla del río", "al lado del molino", "en un árbol alto",
)  # fmt: skip
THINGS = (
    "una cesta", "un libro", "un paraguas", "un sombrero", "una bolsa de almendras", "una lámpara", "una carta",
    "un mapa", "una bufanda", "una cometa",
)  # fmt: skip

STORIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "the open gate": (
        ("{time}, {a[name]} dejó abierta la puerta del jardín.", "{time}, {a[name]} olvidó cerrar la puerta del jardín."),
        ("{a[name]} tiene {a[a_pet]} que se llama {a[pet_name]}.", "{a[The_pet]} de {a[name]} se llama {a[pet_name]}."),
        (
            "Como la puerta estaba abierta, {a[pet_name]} salió y desapareció.",
            "La puerta estaba abierta, y por eso {a[pet_name]} se fue del jardín y no volvió.",
        ),
        (
            "{a[name]} buscó en todos los rincones de {a[street]}, pero no encontró nada.",
            "{a[name]} estaba triste y recorrió {a[street]} en busca de su mascota.",
        ),
        (
            "Entonces {a[first]} pidió ayuda a su {a[best_friend]}, {b[name]}.",
            "{b[name]}, {a[the_friend]} de {a[name]}, se enteró y fue a ayudar.",
        ),
        ("Junt{ab_os} encontraron a {a[pet_name]} {place}.", "Al final {b[first]} vio a {a[pet_name]} {place}."),
        (
            "Desde ese día {a[name]} siempre cierra la puerta.",
            "{a[name]} se alegró tanto que le regaló a {b[first]} {thing}.",
            "Para dar las gracias, {a[first]} preparó {b[the_food]}, porque es lo que más le gusta a {b[name]}.",
        ),
    ),
    "the broken thing": (
        ("{time}, {c[name]} tuvo un problema y buscaba {a[a_trade]}.", "{time}, {c[name]} necesitaba la ayuda de {a[a_trade]}."),
        ("{a[name]} es {a[trade]} y vive en {a[street]}.", "En {a[street]} vive {a[name]}, {a[a_trade]} de Larkmoor."),
        ("Por eso {c[first]} fue a la casa de {a[name]}.", "Por eso {c[name]} caminó hasta {a[street]} y llamó a la puerta."),
        (
            "{a[name]} sabía qué hacer, porque {a[work]} todos los días.",
            "—Puedo ayudarte —dijo {a[name]}—, porque soy {a[trade]}.",
        ),
        ("El trabajo duró dos horas.", "Después de una hora todo estaba listo.", "Trabajaron hasta la noche."),
        (
            "{c[first]} no tenía dinero, y por eso llevó {a[the_food]}, la comida favorita de {a[name]}.",
            "Como a {a[name]} le encanta {a[the_food]}, {c[first]} cocinó ese plato.",
            "Para dar las gracias, {c[name]} tocó {c[the_instrument]} para {a[first]}.",
        ),
        ("Al final l{ac_os} dos estaban content{ac_os}.", "Así cada persona recibió lo que necesitaba.", "Ahora {c[first]} y {a[first]} se saludan todos los días."),
    ),
    "the quiet feast": (
        ("{time} hubo una fiesta en Larkmoor.", "{time}, la gente de Larkmoor quería bailar."),
        ("{a[name]} iba a tocar {a[the_instrument]}.", "Todos esperaban a {a[name]}, que toca {a[the_instrument]}."),
        (
            "Pero había llovido, y {a[the_instrument]} había pasado la noche fuera, así que no sonaba.",
            "Pero {a[name]} había dejado fuera {a[the_instrument]} toda la noche, y ya no sonaba.",
        ),
        (
            "{b[name]}, {a[the_friend]} de {a[first]}, toca {b[the_instrument]}.",
            "Por suerte {a[the_friend]} de {a[name]} es {b[name]}, que toca {b[the_instrument]}.",
        ),
        ("Por eso {b[first]} corrió a su casa en {b[street]} a buscar su instrumento.", "{b[first]} fue a {b[street]} y trajo {b[the_instrument]}."),
        ("Por eso hubo música al final.", "Así la gente bailó hasta medianoche.", "Gracias a eso se salvó la fiesta."),
        (
            "{a[name]} nunca más dejó fuera {a[the_instrument]}.",
            "{a[first]} secó {a[the_instrument]}, y al día siguiente volvió a sonar.",
        ),
    ),
    "the birthday": (
        ("{time} fue el cumpleaños de {a[name]}.", "{time}, {a[name]} cumplió años, pero no se lo dijo a nadie."),
        ("Su {a[best_friend]}, {b[name]}, se acordó.", "Solo {b[name]}, {a[the_friend]} de {a[first]}, lo sabía."),
        (
            "{b[first]} sabe que {a[name]} prefiere el color {a[colour]}, y por eso compró una caja de color {a[colour]}.",
            "Como el color favorito de {a[name]} es {a[the_colour]}, {b[first]} pintó una silla de color {a[colour]}.",
        ),
        (
            "{b[first]} también preparó {a[the_food]}, porque a {a[name]} le encanta.",
            "Después {b[name]} cocinó {a[the_food]}, la comida favorita de {a[first]}.",
        ),
        ("Por la noche {b[first]} llamó a la puerta en {a[street]}.", "{b[name]} lo llevó todo a {a[street]}, donde vive {a[name]}."),
        ("{a[first]} se sorprendió tanto que lloró de alegría.", "Cuando {a[name]} abrió la puerta, no lo podía creer."),
        ("Comieron junt{ab_os}, y {a[first]} tocó {a[the_instrument]}.", "Hasta {a[pet_name]}, {a[the_pet]} de {a[name]}, comió un poco."),
    ),
    "the journey": (
        ("{time}, {a[name]} recibió una carta de {a[town]}.", "{time} llegó una carta de {a[town]} para {a[name]}."),
        ("{a[name]} nació en {a[town]}, y su madre todavía vive allí.", "{a[town]} es el pueblo donde nació {a[name]}."),
        ("La carta decía que su madre estaba enferma.", "En la carta su madre le pedía que fuera."),
        ("Por eso {a[first]} se fue enseguida.", "Por eso {a[name]} tomó {thing} y se puso en camino."),
        (
            "{b[name]}, su {a[best_friend]}, prometió cuidar de {a[the_pet]}.",
            "¿Quién iba a cuidar de {a[pet_name]}, {a[the_pet]}? {b[name]}, {a[the_friend]} de {a[first]}, dijo que sí.",
        ),
        ("El camino fue largo, porque {weather}.", "Por el camino {weather}, y {a[first]} necesitó dos días."),
        ("Cuando llegó a {a[town]}, su madre ya estaba mejor.", "En {a[town]} todos se alegraron de ver a {a[first]}."),
        ("Una semana después {a[name]} volvió a {a[street]}, donde esperaba {a[pet_name]}.", "Después {a[name]} volvió a Larkmoor y a su trabajo de {a[trade]}."),
    ),
    "the forgotten kitchen": (
        ("{time}, {a[name]} preparaba {a[the_food]}, su comida favorita.", "{time}, {a[name]} tenía hambre y preparó {a[the_food]}, porque es lo que más le gusta."),
        ("Entonces {c[name]} llamó a la puerta en {a[street]}.", "Entonces {c[name]} pasó a hablar de {c[pet_name]}, su {c[pet]}."),
        ("Hablaron tanto tiempo que {a[first]} se olvidó del fuego.", "{a[first]} fue a la puerta y se olvidó de la cocina."),
        ("Por eso se echó a perder {a[the_food]}.", "Cuando volvió, ya no se podía comer."),
        ("{c[first]} lo sintió mucho, porque en parte era culpa suya.", "—Es culpa mía —dijo {c[name]}."),
        (
            "Por eso {c[first]} fue a su casa en {c[street]} y trajo {c[the_food]}, su propia comida favorita.",
            "Como a {c[name]} le encanta {c[the_food]}, siempre tiene algo de eso en su casa en {c[street]}, y lo repartió.",
        ),
        ("Comieron junt{ac_os} y se rieron.", "Esa noche nadie se quedó con hambre.", "Desde entonces {a[name]} nunca deja solo el fuego."),
    ),
    "the wet paint": (
        ("{time}, {a[name]} quería pintar su puerta de color {a[colour]}.", "{time}, {a[name]} compró pintura de color {a[colour]} para su puerta."),
        ("A {a[name]} le gusta el color {a[colour]} más que ningún otro.", "El color favorito de {a[name]} es {a[the_colour]}, como saben todos en {a[street]}."),
        ("Por la mañana pintó, y al mediodía empezó a llover.", "En cuanto la puerta estuvo lista, llegó la lluvia."),
        ("La lluvia se llevó la pintura, y la calle quedó de color {a[colour]}, pero la puerta no.", "Como la pintura estaba fresca, corrió hasta la calle."),
        ("{b[name]}, su {a[best_friend]}, vino a ayudar.", "Por eso {a[first]} preguntó a su {a[best_friend]}, {b[name]}, qué hacer."),
        ("Esperaron un día seco y pintaron la puerta otra vez.", "{b[first]} sostuvo un paraguas sobre la puerta mientras {a[first]} pintaba."),
        ("Ahora la puerta en {a[street]} es de color {a[colour]}, como quería {a[name]}.", "Al final {a[name]} tuvo una puerta de color {a[colour]} y se alegró mucho."),
    ),
    "the deep snow": (
        ("{time} cayó tanta nieve que {a[name]} no podía abrir la puerta.", "{time}, {a[street]} estaba llena de nieve, y {a[name]} no podía salir de casa."),
        ("{a[name]} es {a[trade]}, y había gente esperando.", "{a[name]}, que trabaja de {a[trade]}, tenía que ir a trabajar."),
        ("{a[first]} abrió la ventana y tocó {a[the_instrument]} con todas sus fuerzas.", "Por eso {a[name]} se puso a tocar {a[the_instrument]} junto a la ventana."),
        ("{c[name]} oyó {a[the_instrument]} y entendió que alguien necesitaba ayuda.", "Al oír la música, {c[name]} vino a mirar."),
        ("{c[first]} llamó a los vecinos, y juntos quitaron la nieve en una hora.", "Después {c[first]} abrió un camino hasta la puerta."),
        ("Así pudo salir {a[first]}.", "Al mediodía {a[name]} pudo salir por fin."),
        ("{a[first]} les dio las gracias con {a[the_food]}, el plato que más le gusta.", "Hasta {a[pet_name]}, {a[the_pet]} de {a[first]}, salió a ver la nieve."),
    ),
    "the new neighbour": (
        ("{time}, {c[name]} conoció a {a[name]}.", "{time}, {c[name]} se sentó al lado de {a[name]}."),
        ("{c[name]} nació en {c[town]} y todavía no conocía a mucha gente.", "{c[name]} viene de {c[town]}, y todo le parecía nuevo."),
        ("Por eso {a[first]} le contó que nació en {a[town]}.", "{a[name]} le habló de {a[town]}, donde nació."),
        ("{a[name]} también le dijo que trabaja de {a[trade]}.", "{c[first]} supo así que {a[name]} es {a[trade]}."),
        ("{c[name]} respondió que es {c[trade]}.", "{c[name]} trabaja de {c[trade]}, y por eso hablaron del trabajo."),
        ("Como {c[first]} parecía triste, {a[name]} {c[him]} invitó a {a[street]}.", "{a[name]} vio que {c[first]} no tenía compañía, y {c[him]} invitó a {a[street]}."),
        ("Allí conoció a {b[name]}, {a[the_friend]} de {a[name]}.", "Allí comieron {a[the_food]}, la comida favorita de {a[name]}."),
        ("Desde entonces {c[first]} ya no estuvo sol{c[o]}.", "Así empezó una buena amistad."),
    ),
    "the lost letter": (
        ("{time}, {c[name]} encontró una carta {place}.", "{time} el viento se llevó una carta, y {c[name]} la encontró {place}."),
        ("Llevaba el nombre de {a[name]}, pero ninguna calle.", "Era para {a[name]}, pero la lluvia había borrado la calle."),
        ("{c[first]} preguntó a {b[name]}, {a[the_friend]} de {a[name]}.", "{c[name]} sabía que {a[the_friend]} de {a[name]} es {b[name]}, y por eso preguntó allí."),
        ("—{a[name]} vive en {a[street]} —dijo {b[first]}.", "{b[name]} dijo que {a[name]} vive en {a[street]}."),
        ("Por eso {c[first]} llevó la carta a {a[street]}.", "Así la carta llegó por fin a {a[street]}."),
        ("La carta era de {a[town]}, donde nació {a[name]}.", "Venía de {a[town]}, el pueblo donde nació {a[name]}."),
        ("{a[name]} se alegró y le regaló a {c[first]} {thing}.", "{a[first]} la leyó dos veces y dio las gracias a {c[name]} de todo corazón."),
    ),
    "the quarrel": (
        ("{time}, {a[name]} y su {a[best_friend]}, {b[name]}, discutieron.", "{time}, {a[name]} se enfadó con su {a[best_friend]}, {b[name]}."),
        ("{b[first]} había prometido ir a {a[street]}, pero se olvidó.", "El motivo era que {b[first]} había perdido {thing} de {a[first]}."),
        ("Durante tres días no se hablaron.", "Por eso {a[first]} pasaba al lado de {b[first]} sin decir nada."),
        ("{a[name]} estaba triste en casa con {a[pet_name]}, su {a[pet]}.", "{a[name]} tocaba canciones tristes en casa con {a[the_instrument]}."),
        ("{b[name]} lo sentía y cocinó {a[the_food]}, porque es lo que más le gusta a {a[name]}.", "Entonces {b[name]} compró una bufanda de color {a[colour]}, porque a {a[name]} le encanta el color {a[colour]}."),
        ("Con eso fue a {a[street]} y dijo: —Lo siento.", "—Lo siento —dijo {b[first]} en la puerta, en {a[street]}."),
        ("{a[first]} ya no pudo seguir con su enfado.", "Así hicieron las paces.", "Se rieron, y todo volvió a estar bien."),
    ),
    "the fog": (
        ("{time} hubo mucha niebla, y {b[name]} se perdió {place}.", "{time}, {b[name]} andaba entre la niebla y no veía ni sus propios pies."),
        ("{a[name]}, que tiene en {b[name]} a su {a[best_friend]}, empezó a preocuparse.", "{a[name]} esperaba a {b[name]}, su {a[best_friend]}, pero no llegaba nadie."),
        ("{a[name]} toca {a[the_instrument]}, y eso le dio una idea.", "Entonces {a[name]} pensó en {a[the_instrument]}, porque toca todos los días."),
        ("Salió a {a[street]} y tocó con todas sus fuerzas.", "Por eso {a[name]} se puso en medio de {a[street]} y tocó sin parar."),
        ("{b[first]} oyó {a[the_instrument]} y siguió el sonido.", "Como {b[first]} conocía el sonido, encontró el camino."),
        ("Al final {b[name]} llegó bien a {a[street]}.", "Media hora después {b[first]} estaba delante de {a[first]}."),
        ("Bebieron té caliente con {a[pet_name]}, {a[the_pet]} de {a[name]}, a su lado.", "Después {a[name]} preparó {a[the_food]}, su comida favorita."),
    ),
    "the hungry pet": (
        ("{time}, {a[name]} puso {a[the_food]} en la mesa.", "{time}, {a[name]} había preparado {a[the_food]}, el plato que más le gusta."),
        ("Después salió a hablar con {c[name]}, que es {c[trade]}.", "Entonces {c[name]} llamó, y {a[first]} salió a {a[street]}."),
        ("La ventana estaba abierta, y {a[pet_name]} tenía hambre.", "{a[The_pet]} de {a[name]} se llama {a[pet_name]}, y {a[pet_name]} siempre tiene hambre."),
        ("Por eso {a[pet_name]}, {a[the_pet]} de {a[name]}, se lo comió todo.", "{a[The_pet]} de {a[name]} entró y se lo comió todo."),
        ("Cuando {a[first]} volvió, el plato estaba vacío.", "{a[first]} volvió a casa y solo encontró un plato vacío."),
        ("Primero se enfadó, pero después tuvo que reír.", "{c[first]} se rió, y entonces {a[first]} también tuvo que reír."),
        ("Ahora {a[name]} cierra la ventana antes de salir.", "Por eso {a[name]} ahora esconde su comida cuando está cerca {a[pet_name]}."),
    ),
    "the lesson": (
        ("{time}, {c[name]} quería aprender a tocar {a[the_instrument]}.", "{time}, {c[name]} oyó a {a[name]} tocar {a[the_instrument]}."),
        ("{a[name]} toca bien {a[the_instrument]}, y por eso {c[first]} le pidió una clase.", "Como {a[name]} toca tan bien {a[the_instrument]}, {c[first]} quiso aprender con {a[he]}."),
        ("—Ven a {a[street]} después del trabajo —dijo {a[name]}.", "Se vieron en la casa de {a[name]} en {a[street]}."),
        ("Al principio sonaba muy mal, y {a[pet_name]}, {a[the_pet]}, corrió debajo de la mesa.", "Las primeras notas fueron tan malas que {a[the_pet]} de {a[name]} se escondió."),
        ("Pero {c[first]} practicó todos los días, y por eso mejoró.", "{a[name]} tuvo paciencia, y por eso {c[first]} no se rindió."),
        ("Después de un año {c[name]} sabía tocar tres canciones.", "Medio año después tocaron junt{ac_os} en una fiesta."),
        ("{c[name]}, que es {c[trade]}, dio las gracias a {a[first]} con {thing}.", "Para dar las gracias, {c[name]} preparó {a[the_food]}, que a {a[name]} le encanta."),
    ),
}  # fmt: skip
